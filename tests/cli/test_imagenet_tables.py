"""ImageNet's and DeiT's tables from submission to LaTeX, on a few photographs of ten classes.

Every kind of row has its own test elsewhere; here a selection of them is trained for one epoch of
small images, as overrides, and shown.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.run.directory import all_rundirs
from tests.cli.command import bench

pytestmark = pytest.mark.slow

SMALL = (
    *("recipe.epochs=1", "recipe.batch_size=20", "recipe.crop_size=32", "recipe.eval_batch=30"),
    *("recipe.holdout=0", "recipe.threads=1", "recipe.precision=fp32", "recipe.replicas=2"),
    "recipe.schedule.warmup_epochs=0",
)
DEIT = """\
schema: 1
name: small-deit
base: deit
columns:
  - {name: small, teacher: resnet8_rednet26, student: "timm:deit_tiny_patch16_224"}
rows:
  - {name: Advised, student: civt_tiny, methods: [coadvise], recipe: {from: civt_300}}
"""
ROWS = ("DeiT-Ti", "DeiT-Ti distilled", "USKD (tiny)", "Our Method (tiny)", "Advised")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_photographs: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_DATA", str(few_photographs))
    monkeypatch.setenv("BENCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("BENCH_TEACHERS", str(tmp_path / "teachers"))


def submitted(table: str, *words: str) -> None:
    sets = [word for value in SMALL for word in ("--set", value)]
    ended = bench("submit", "--table", table, *words, *sets, "--cluster", "inline")
    assert ended.code == 0, ended.err


def latex(table: str) -> str:
    ended = bench("collect", "--table", table, "--format", "tex", "--out", "shown")
    assert ended.code == 0, ended.err
    (file,) = Path("shown").glob("*.tex")
    return file.read_text()


def results(runs: Path) -> dict[str, list[float]]:
    """Return every run's losses by its key."""
    found = {}
    for rundir in all_rundirs(runs):
        (record,) = rundir.read_records()
        found[rundir.key] = [*record["losses"].values(), record["test_loss"]]
    return found


def test_transformers(tmp_path: Path) -> None:
    table = tmp_path / "small-deit.yaml"
    table.write_text(DEIT)
    only = [word for row in ROWS for word in ("--only", f"row={row}")]
    submitted(str(table), *only, "--only", "column=small")
    found = results(tmp_path / "runs")
    assert len(found) == len(ROWS) + 1  # and their teacher
    assert len({tuple(losses) for losses in found.values()}) == len(found)
    text = latex(str(table))
    for row in ROWS:
        assert row in text
    assert "DearKD" in text
    assert "override" in text


def test_two_rows_of_imagenet_with_two_seeds(tmp_path: Path) -> None:
    """Numbers differ by method and by seed; the trained teacher has ten classes as well."""
    words = ("--only", "column=tv_resnet34-tv_resnet18", "--seeds", "0,1")
    submitted("imagenet", "--only", "row=KD", "--only", "row=Student", *words)
    found = results(tmp_path / "runs")
    assert len(found) == 5
    assert len({tuple(losses) for losses in found.values()}) == 5
    # Again: nothing is left to do, and the teacher of ten classes is found fit to teach.
    submitted("imagenet", "--only", "row=KD", "--only", "row=Student", *words)
    assert len(results(tmp_path / "runs")) == 5
    submitted("imagenet", "--only", "row=DIST", *words[:2], "--seeds", "0")
    text = latex("imagenet")
    assert "DIST" in text
    assert "override" in text
