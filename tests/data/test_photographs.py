"""Photographs of one's own, of varying sizes: written, trained on by FFCV, and collected."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.cli.command import bench

TABLE = """
schema: 1
name: photographs
title: Photographs
source: {paper: none}
dataset: mine
recipe: imagenet_100
teacher: {from: train, seed: same}
seeds: [0]
columns: [{teacher: resnet8, student: resnet8}]
rows:
  - {name: Teacher, of: teacher}
  - {name: KD, methods: [kd]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of twelve photographs to train on and four to test, each of its own size."""
    fixtures = Path(os.environ.get("BENCH_FIXTURES", "/nonexistent"))
    found = sorted((fixtures / "data/imagenet-fullsize-sample").rglob("*.JPEG"))[:32]
    if len(found) < 32:
        pytest.skip("needs the full-size photographs of BENCH_FIXTURES")
    for number, photograph in enumerate(found):
        split = "train" if number % 16 < 12 else "val"
        place = tmp_path / "photographs" / split / ("cats", "dogs")[number // 16]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(photograph, place)
    return tmp_path


@pytest.mark.slow
def test_from_a_folder_to_a_table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ffcv")
    monkeypatch.chdir(folder)
    written = bench("data", "write", "--dataset", "mine", "photographs", "--data", "data")
    assert written.code == 0, written.err
    assert "2 classes, 24 train images, 8 test images (jpeg" in written.out
    Path("mine.yaml").write_text(TABLE)
    small = ("recipe.epochs=2", "recipe.batch_size=8", "recipe.crop_size=32", "recipe.threads=1")
    sets = [word for one in small for word in ("--set", one)]
    where = ("--table", "mine.yaml", "--runs", "runs")
    trained = bench("submit", *where, "--data", "data", "--cluster", "inline", *sets)
    assert trained.code == 0, trained.err
    told = json.loads(bench("collect", *where, "--format", "json").out)
    assert {(cell["row"], cell["n"]) for cell in told["cells"]} == {("Teacher", 1), ("KD", 1)}
    # Eight test images: an accuracy is a number of eighths.
    assert all(cell["mean"] % 12.5 == 0 for cell in told["cells"])
    assert all(cell["overrides"] for cell in told["cells"])
