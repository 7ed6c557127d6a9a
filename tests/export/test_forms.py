"""Whatever a file of a bundle holds, the audit ends in a line that names it, never in an error."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmark.export.audit import AuditWord, audit
from benchmark.planning.matrix import Context, make_plan
from benchmark.run.directory import RunDir, all_rundirs
from benchmark.table.load import load_table
from benchmark.table.selection import Selection
from benchmark.train.result import from_records
from tests.cli.command import bench
from tests.results.filled import edit, write

TABLE = """
schema: 1
name: own
source: {paper: Nobody}
dataset: digits
recipe: digits_60
teacher: {from: train, seed: same}
seeds: [0]
columns: [{teacher: wrn_16_2, student: resnet8}]
rows:
  - {name: Student, of: student}
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a made-up run whose result follows from its epochs."""
    root = tmp_path_factory.mktemp("forms")
    (root / "own.yaml").write_text(TABLE)
    plan = make_plan(load_table(str(root / "own.yaml")), Selection(), Context(root, "cpu"))
    write(root / "runs", plan.runs, curve=True)
    for rundir in all_rundirs(root / "runs"):
        edit(rundir.result, **from_records(rundir.read_records()))
    where = ("--table", root / "own.yaml", "--runs", root / "runs", "--out", root / "out")
    ended = bench("bundle", *where)
    assert ended.code == 0, ended.err
    return root / "out"


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    shutil.copytree(written, tmp_path / "bundle")
    return tmp_path / "bundle"


def student(folder: Path) -> RunDir:
    (found,) = (folder / "runs").glob("*resnet8*")
    return RunDir(folder / "runs", found.name)


def mismatches(folder: Path) -> list[str]:
    """What is said of it beside the digests and the networks, which are not there."""
    checks = audit(folder, folder / "no-data", "none")
    return [c.text for c in checks if c.finding is AuditWord.MISMATCH and c.name != "files"]


def test_a_whole_one_is_whole(folder: Path) -> None:
    assert mismatches(folder) == []


def test_every_statistic_follows_from_the_epochs(folder: Path) -> None:
    rundir = student(folder)
    metrics = rundir.read_result()["metrics"]
    names = [(metric, name) for metric in ("top1", "top5") for name in metrics[metric]]
    assert len(names) == 12
    for metric, name in names:
        metrics[metric][name] = [99.5] * 5 if name == "last_5" else 99.5
    edit(rundir.result, metrics=metrics)
    said = mismatches(folder)
    for metric, name in names:
        assert any(f"{metric} {name} is" in line for line in said), (metric, name)


@pytest.mark.parametrize(
    "changes",
    [
        {"diverged": True, "diverged_at": 3, "metrics": {}},
        {"diverged_at": 3},
        {"val_top1": 99.0},
        {"epochs": 1},
    ],
)
def test_how_it_ended_follows_from_the_epochs(folder: Path, changes: dict[str, Any]) -> None:
    edit(student(folder).result, **changes)
    said = mismatches(folder)
    assert any(f"{next(iter(changes))} is" in line for line in said), said


def test_a_mean_and_a_run_without_epochs(folder: Path) -> None:
    rundir = student(folder)
    metrics = rundir.read_result()["metrics"]
    metrics["top1"]["mean_of_last_5"] += 0.5
    edit(rundir.result, metrics=metrics)
    assert any("top1 mean_of_last_5 is" in line for line in mismatches(folder))
    rundir.records.write_text("")
    assert any("records.jsonl has no epoch" in line for line in mismatches(folder))


ODD: list[Any] = [3, {"cells": [1]}, {"cells": 3}, {"cells": [{"row": []}]}]


@pytest.mark.parametrize("content", ODD, ids=repr)
def test_a_table_of_another_form_is_named(folder: Path, content: Any) -> None:
    (folder / "results" / "own.json").write_text(json.dumps(content))
    (said,) = mismatches(folder)
    assert "results/own.json is of another form" in said


@pytest.mark.parametrize("provenance", [3, {"versions": []}], ids=repr)
def test_an_origin_of_another_form_is_named(folder: Path, provenance: Any) -> None:
    edit(student(folder).result, provenance=provenance)
    assert any("result.json: its provenance" in line for line in mismatches(folder))


@pytest.mark.parametrize(
    "changes",
    [{"epoch": None, "test_top1": "x"}, {"test_top1": []}, {"outputs": 3}, {"outputs": {"a": 1}},
     {"val_top1": "x"}],
    ids=repr,
)  # fmt: skip
def test_records_of_another_form_are_named(folder: Path, changes: dict[str, Any]) -> None:
    rundir = student(folder)
    records = [record | changes for record in rundir.read_records()]
    rundir.records.write_text("".join(json.dumps(r) + "\n" for r in records))
    said = mismatches(folder)
    assert any("records.jsonl" in line or "its epochs say" in line for line in said), said


@pytest.mark.parametrize("name", ["selection", "file"])
@pytest.mark.parametrize("value", [[1], {"only": 3}], ids=repr)
def test_a_manifest_of_another_form_is_named(folder: Path, name: str, value: Any) -> None:
    edit(folder / "MANIFEST.json", **{name: value})
    assert mismatches(folder)


@pytest.mark.parametrize("name", ["student.safetensors", "epoch0001.pt", "extras.safetensors"])
def test_a_network_of_another_form_is_named(folder: Path, digits: Path, name: str) -> None:
    rundir = student(folder)
    rundir.weights.write_bytes(b"none")
    (rundir.path / name).write_bytes(b"\x00" * 40)
    found = [c for c in audit(folder, digits, "one") if c.name in ("students", "replay")]
    assert any(rundir.key in check.text for check in found), found
