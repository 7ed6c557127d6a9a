"""The pages that each do one task: their commands and examples run in order, in one folder."""

from __future__ import annotations

import csv
import json
import re
import shlex
import tarfile
from pathlib import Path
from typing import Any

import pytest

from benchmark import models
from benchmark.methods import catalog
from tests.cli.command import bench

DOCS = Path(__file__).resolve().parents[1] / "docs"
BLOCKS = re.compile(r"```(sh|python|yaml)\n(.*?)```", re.DOTALL)
# The first line of a block that is the content of a file.
NAMED = re.compile(r"# ([\w./-]+\.(?:py|yaml|txt))\n")


def run_page(name: str, folder: Path) -> list[str]:
    """Run a page's blocks in order; return what its commands printed.

    ``sh``: commands of bench, a line each, which end well unless a comment says otherwise;
    ``yaml`` and ``python`` that begin with a file's name are written there, other ``python`` runs.
    """
    text = (DOCS / name).read_text(encoding="utf-8")
    known: dict[str, Any] = {"folder": folder}
    printed = []
    for block in BLOCKS.finditer(text):
        kind, content = block[1], block[2]
        named = NAMED.match(content)
        if kind == "sh":
            for line in filter(None, content.splitlines()):
                words = shlex.split(line, comments=True)
                assert words[0] == "bench", line
                for registered in (catalog._plugins, catalog._files, models._plugins):
                    registered.clear()  # as a process of its own begins
                ended = bench(*words[1:])
                wanted = 2 if "# refused" in line else 0
                assert ended.code == wanted, (line, ended)
                printed.append(ended.out + ended.err)
        elif named is not None:
            (folder / named[1]).write_text(content)
        elif kind == "python":
            at = "\n" * text[: block.start()].count("\n") + "\n"
            exec(compile(at + content, str(DOCS / name), "exec"), known)
    return printed


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("BENCH_RUNS", "BENCH_DATA", "BENCH_TEACHERS", "BENCH_TABLES", "BENCH_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.slow
def test_own_teacher(folder: Path) -> None:
    printed = run_page("own-teacher.md", folder)
    assert "your own teacher wrn_16_2 has" in "".join(printed)
    assert "* with overrides" in printed[3]
    assert "from a teacher's file of your own" in printed[6]
    for name in ("digits", "mine"):
        drawn = folder / f"figures/{name}-correlation-wrn_16_2-resnet8.csv"
        assert "KD" in drawn.read_text(), printed
    notes = (folder / "results/mine.md").read_text()
    assert "taught by the user's own wrn_16_2 (file" in notes


@pytest.mark.slow
def test_own_data(folder: Path) -> None:
    printed = run_page("adding-a-dataset.md", folder)
    assert "10 classes, 150 train images, 50 test images (raw, 32 pixels" in printed[0]
    assert "10 classes, 300 train images, 200 test images (raw, 8 pixels" in printed[2]
    assert "3 slots, 3 cells" in printed[3]
    assert "override: recipe.epochs = 1" in (folder / "results/ours.md").read_text()


@pytest.mark.slow
def test_own_network(folder: Path) -> None:
    printed = run_page("own-network.md", folder)
    forgotten = printed[3]
    assert "unknown model 'small'" in forgotten
    assert "my_net.py defines it: add --plugin my_net.py" in forgotten


@pytest.mark.slow
def test_sweeps(folder: Path) -> None:
    printed = run_page("sweeps.md", folder)
    assert "1 slot, 4 cells" in printed[1]
    assert "note: --set" not in printed[1]
    assert "--set recipe.epochs, recipe.holdout reaches 1 teacher, too" in printed[2]
    lines, sentence = printed[3].split("\n\n")[:2]
    assert lines.count("kd.temperature = 1.0, recipe.epochs = 1") == 2
    assert lines.count("held out") == 2  # the head and the chosen one
    assert "chosen on held-out images: " in sentence
    assert len((folder / "results/digits.sweep.csv").read_text().splitlines()) == 5
    heat = next((folder / "figures").glob("digits-sweep-KD-*.csv"))
    with heat.open(newline="") as file:
        drawn = list(csv.DictReader(file))
    assert {(float(one["set.kd.temperature"]), float(one["set.recipe.lr"])) for one in drawn} == {
        (t, lr) for t in (1.0, 4.0) for lr in (0.02, 0.05)
    }
    told = json.loads((folder / "results/digits.sweep.json").read_text())["combinations"]
    assert [one["mean"] for one in told] == pytest.approx([float(one["mean"]) for one in drawn])


@pytest.mark.slow
def test_probes(folder: Path) -> None:
    printed = run_page("probes.md", folder)
    assert "unknown probe 'projektion'" in printed[3]
    for kind in ("projection", "conflict-training"):
        drawn = folder / f"figures/projectors-{kind}-wrn_16_2-resnet8"
        assert drawn.with_suffix(".pdf").stat().st_size > 10_000
        before = drawn.with_suffix(".png").read_bytes()
        words = ("--table", "projectors.yaml", "--kind", kind, "--out", "again")
        assert bench("figures", *words).code == 0
        assert (folder / "again" / f"{drawn.name}.png").read_bytes() == before
    with (folder / "figures/projectors-projection-wrn_16_2-resnet8.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    widths = {line["row"]: set[str]() for line in lines}
    for line in lines:
        widths[line["row"]].add(line["matrix"])
    assert widths == {
        **{row: {"", "weight"} for row in ("no norm", "L2", "batch")},
        "batch, MLP": {"", "0.weight", "2.weight"},
    }
    assert {int(line["epoch"]) for line in lines} == {1, 2, 3, 4}


@pytest.mark.slow
def test_export(folder: Path) -> None:
    printed = run_page("export.md", folder)
    assert {path.name for path in (folder / "results").iterdir()} >= {
        *(f"digits.{kind}" for kind in ("md", "tex", "csv", "json")),
        *("digits.runs.csv", "digits.epochs.csv"),
    }
    assert "2 runs for tensorboard" in printed[4]
    assert "1 run for wandb sync out/wandb/offline-run-*" in printed[5]
    assert (folder / "out/epochs.parquet").stat().st_size
    assert "written: 1 network in out/onnx" in printed[6]
    assert "written: digits.tar, 2 runs" in printed[7]
    with tarfile.open(folder / "digits.tar") as archive:
        readme = archive.extractfile("digits-bundle/README.md")
        assert readme is not None
        assert b"--only row=KD --seeds 0 --set recipe.epochs=1" in readme.read()
    assert "epoch 1 from its seed: the same to the last bit" in printed[8]
    assert "2 runs with overrides:" in printed[9]
    assert "would delete 2 runs" in printed[10]
