"""What one run directory says, and why one that cannot be counted is not."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmark.run.directory import RunDir
from benchmark.run.identity import Run, cell_identity_of, digest, identity_of
from benchmark.run.index import RunIndex
from tests.results.filled import edit, plan, refreshed, states


@pytest.mark.parametrize("table", ["cifar100", "digits", "thesis-4", "imagenet"])
def test_what_is_hashed_without_validation_is_the_runs_identity(table: str) -> None:
    planned = plan(table, only=())
    for run in planned.runs[:: max(1, len(planned.runs) // 40)]:
        data = json.loads(json.dumps(run.to_json()))
        assert identity_of(data) == run.identity
        assert cell_identity_of(identity_of(data)) == run.cell_identity


METRICS = {"last": 70.0, "best": 71.0, "median_of_last_5": 70.0, "mean_of_last_5": 70.0}


def damaged(index: RunIndex) -> list[tuple[str, str]]:
    return [(run.key, run.reason) for run in index.damaged()]


def with_top1(**changes: Any) -> dict[str, Any]:
    return {"metrics": {"top1": {**METRICS, **changes}, "top5": METRICS}}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema": 2}, "schema 2, this version reads 0 and 1"),
        ({"schema": "1"}, "not a file of this project"),
        ({"key": "cifar100-somebody-else-s0-0123456789ab"}, "is the result of cifar100-somebody"),
        ({"diverged": "no"}, "does not say whether it diverged"),
        ({"metrics": {}}, "has no top1 last"),
        ({"metrics": {"top1": METRICS}}, "has no top5 last"),
        (with_top1(last=float("nan")), "top1 last is nan, not a percentage"),
        (with_top1(best=float("inf")), "top1 best is inf"),
        (with_top1(last="70.1"), "top1 last is '70.1'"),
        (with_top1(last=True), "top1 last is True"),
        (with_top1(mean_of_last_5=100.5), "mean_of_last_5 is 100.5"),
        (with_top1(median_of_last_5=-1), "median_of_last_5 is -1"),
        ({"val_top1": float("nan")}, "val_top1 is nan"),
        (with_top1(best=69.5), "top1 best is 69.5, which is below the last, 70.0"),
    ],
)
def test_a_result_that_does_not_fit_is_named_and_not_counted(
    first: RunDir, changes: dict[str, Any], reason: str
) -> None:
    edit(first.result, **changes)
    index = refreshed(first.root)
    ((key, why),) = damaged(index)
    assert key == first.key
    assert reason in why
    assert sorted(states(index).values()) == ["damaged", "done", "done"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"schema": 1, "key": "', b"[1]", b"\xff\xfe", b"[" * 100_000]
)
@pytest.mark.parametrize("name", ["result", "cell"])
def test_a_damaged_file_is_named_and_not_counted(first: RunDir, content: bytes, name: str) -> None:
    path = getattr(first, name)
    path.write_bytes(content)
    index = refreshed(first.root)
    ((key, why),) = damaged(index)
    assert key == first.key
    assert str(path) in why
    assert list(states(index).values()).count("done") == 2


def test_the_schema_before_this_one_is_read(first: RunDir) -> None:
    edit(first.result, schema=0)
    edit(first.cell, schema=0)
    assert damaged(refreshed(first.root)) == []


def test_a_file_that_is_far_too_long_is_not_read(
    first: RunDir,
) -> None:
    os.truncate(first.result, 2**30)
    ((_, why),) = damaged(refreshed(first.root))
    assert why.endswith("has 1,073,741,824 bytes: it is not a file of this project")


@pytest.mark.parametrize("done", [True, False])
def test_a_copied_directory_is_no_second_run(first: RunDir, done: bool) -> None:
    if not done:
        first.result.unlink()
    copy = first.root / f"{first.key}-copy"
    shutil.copytree(first.path, copy)
    ((key, why),) = damaged(refreshed(first.root))
    assert key == copy.name
    assert f"describes {first.key}" in why


def test_an_edited_cell_is_not_what_the_name_says(first: RunDir) -> None:
    data = json.loads(first.cell.read_text())
    edit(first.cell, recipe={**data["recipe"], "epochs": 1})
    ((key, why),) = damaged(refreshed(first.root))
    assert key == first.key
    assert "renamed, copied or edited" in why


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"recipe": ...}, "does not describe a run: it has no 'recipe'"),
        ({"teacher": {}}, "does not describe a run: it has no 'source'"),
        ({"recipe": "crd_240"}, "does not describe a run: what it holds is of another form"),
        ({"seed": "0"}, "does not describe a run: the seed is '0'"),
        ({"methods": [1]}, "does not describe a run: what it holds is of another form"),
    ],
)
def test_a_cell_that_describes_no_run_is_told_in_a_sentence(
    first: RunDir, changes: dict[str, Any], reason: str
) -> None:
    data = {**json.loads(first.cell.read_text()), **changes}
    first.cell.write_text(json.dumps({k: v for k, v in data.items() if v is not ...}))
    ((key, why),) = damaged(refreshed(first.root))
    assert key == first.key
    assert why == f"{first.cell} {reason}"


def test_a_result_without_a_cell_is_named(first: RunDir) -> None:
    first.cell.unlink()
    ((_, why),) = damaged(refreshed(first.root))
    assert "has a result and no cell.json" in why


def test_a_run_of_another_version_of_the_project_has_a_cell_of_its_own(
    runs: list[Run], tmp_path: Path
) -> None:
    # As an older version spelt it: without a field, with another; the name is its hash.
    data = runs[0].to_json()
    del data["recipe"]["eval_batch"]
    data["recipe"]["warm_restart"] = 3
    key = f"{runs[0].slug}-s0-{digest(identity_of(data))}"
    root = tmp_path / "old"
    (root / key).mkdir(parents=True)
    (root / key / "cell.json").write_text(json.dumps(data))
    index = refreshed(root)
    assert damaged(index) == []
    assert states(index) == {key: "stopped"}
    assert next(iter(index.all_cells())) != runs[0].cell_key


def test_a_name_that_is_no_text_is_still_named(first: RunDir) -> None:
    shutil.copytree(os.fsencode(first.path), os.fsencode(first.path) + b"\xff")
    ((key, why),) = damaged(refreshed(first.root))
    assert key == f"{first.key}\\udcff"
    assert "renamed" in why


def test_a_directory_that_may_not_be_read_is_named(
    first: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.lstat

    def lstat(path: Any, **how: Any) -> os.stat_result:
        if str(path) == str(first.result):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **how)

    monkeypatch.setattr(os, "lstat", lstat)
    index = refreshed(first.root)
    assert damaged(index) == [(first.key, f"{first.result} cannot be read: Permission denied")]
    monkeypatch.undo()
    assert damaged(refreshed(first.root)) == []
