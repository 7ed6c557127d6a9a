"""Submissions are read back from their folders, whatever else lies there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.monitor.status import read_status
from benchmark.planning.packs import make_packs
from benchmark.slurm.notation import IndexSet, Tag
from benchmark.slurm.queue import QueueRecord, QueueSnapshot, TaskState
from benchmark.submission.folder import Folder
from benchmark.submission.sent import (
    Work,
    cleaned_runs,
    note_cleaned,
    only_shown,
    runs_beside,
    runs_in_queue,
    sent_arrays,
)
from benchmark.submission.submission import new_submission
from tests.helpers import digits_plan
from tests.two_users import ALICE, a_place, acting_as, as_root


def _submission(runs: Path, name: str, *jobs: int | None) -> Path:
    folder = runs / ".submissions" / name
    folder.mkdir(parents=True)
    for number in range(len(jobs)):
        rows = [[f"{name}{number}{i}", "p", [f"{name}-{number}-{i}"], []] for i in range(3)]
        Folder(folder).index(number).write_text(json.dumps(rows))
    arrays = [{"nonce": f"{name}-{number}", "job": job} for number, job in enumerate(jobs)]
    record = {"schema": 1, "table": "digits", "arrays": arrays}
    (folder / "submission.json").write_text(json.dumps(record))
    return folder


def _queued(job: int, tasks: str, state: str, nonce: str, restarts: int = 0) -> QueueRecord:
    return QueueRecord(
        job=job,
        tasks=IndexSet.parse(tasks),
        state=state,
        reason="Priority",
        restarts=restarts,
        start=None,
        submitted=0.0,
        gpus=0,
        partition="main",
        nodes="n1",
        user="me",
        tag=Tag("digits", "x3", nonce),
    )


def _sent_packs(runs: Path) -> list[Work]:
    return [work for array in sent_arrays(runs) for work in array.works()]


def test_packs_with_their_tasks(tmp_path: Path) -> None:
    folder = _submission(tmp_path, "a", 7, None)
    packs = _sent_packs(tmp_path)
    assert [pack.task for pack in packs] == ["7_0", "7_1", "7_2", None, None, None]
    assert packs[1].folder == Folder(folder)
    assert packs[1].keys == ("a-0-1",)
    assert _sent_packs(tmp_path / "elsewhere") == []


def test_what_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    _submission(tmp_path, "a", 7)
    (tmp_path / ".submissions" / "local-executor" / "packs").mkdir(parents=True)
    broken = _submission(tmp_path, "b", 8)
    (broken / "submission.json").write_text('{"schema": 1')
    lost = _submission(tmp_path, "c", 9)
    (lost / "array-0.index.json").unlink()
    assert {pack.task for pack in _sent_packs(tmp_path)} == {"7_0", "7_1", "7_2"}


def test_runs_whose_task_waits_or_runs(tmp_path: Path) -> None:
    _submission(tmp_path, "a", 7)
    _submission(tmp_path, "b", None)
    _submission(tmp_path, "c", 9)
    snapshot = QueueSnapshot(
        (
            _queued(7, "1-2", "PENDING", "a-0"),
            _queued(7, "0", "PENDING", "a-0", restarts=1),
            _queued(8, "2", "RUNNING", "b-0"),  # its answer was lost: found by its nonce
        )
    )
    found = runs_in_queue(tmp_path, snapshot)
    assert all(key in work.keys for key, work in found.items())
    assert {key: work.state for key, work in found.items()} == {
        "a-0-0": TaskState("requeued", "Priority"),
        "a-0-1": TaskState("waiting", "Priority"),
        "a-0-2": TaskState("waiting", "Priority"),
        "b-0-2": TaskState("running", "n1"),
    }


@pytest.mark.parametrize("table", ["digits", "long" * 30])
def test_runs_beside_those_that_are_trained(digits: Path, tmp_path: Path, table: str) -> None:
    """A long name is cut in the folder's: what counts is the record."""
    runs = digits_plan(digits, ["row=Student"]).runs
    first = new_submission(table, make_packs(table, runs[:2], [], 1), tmp_path, digits)
    first.write("local")
    second = new_submission(table, make_packs(table, runs[1:4], [], 1), tmp_path, digits)
    second.write("local")
    keys = [run.key for run in runs]
    assert runs_beside(tmp_path, table, []) == {}
    assert runs_beside(tmp_path, "another", keys) == {}
    assert runs_beside(tmp_path, table, keys[:1]) == {run.key: run for run in runs[:2]}
    assert runs_beside(tmp_path, table, keys[1:2]) == {run.key: run for run in runs[1:4]}
    second.folder.packs(0).write_text('{"schema": 7}')  # another version's
    assert runs_beside(tmp_path, table, keys[1:2]) == {}


@as_root
def test_what_another_user_says_was_cleaned_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / ".submissions").mkdir()
    note_cleaned(tmp_path, "digits", {"run": "cell"})
    assert cleaned_runs(tmp_path) == {"digits": {"run": "cell"}}
    (path,) = (tmp_path / ".submissions").iterdir()
    os.chown(path, ALICE, ALICE)
    assert cleaned_runs(tmp_path) == {}


@as_root
def test_what_only_shows_goes_on_where_submissions_cannot_be_read(
    told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_place() as place:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "config"))
        (place / ".submissions").mkdir(mode=0o700)
        with acting_as(ALICE):
            with pytest.raises(UserError, match=r"cannot read the submissions in .*Permission"):
                sent_arrays(place)
            assert not read_status(place, place).tables
            with only_shown():
                assert runs_beside(place, "digits", ["x"]) == {}
    assert len(told.messages) == 1
    assert "cannot read the submissions in" in told.messages[0]
