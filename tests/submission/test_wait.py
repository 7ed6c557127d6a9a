"""When `bench submit --wait` returns, and with which exit code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.run.identity import Run
from benchmark.slurm import queue
from benchmark.slurm.queue import RawQueue
from benchmark.submission import wait
from benchmark.submission.marks import note_failure
from benchmark.submission.sent import sent_arrays
from perf.synthetic_runs import write_run
from tests.submitted import HELD, RECORDED

pytestmark = pytest.mark.usefixtures("called")


@pytest.fixture
def finishing(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that sets what squeue says, and which runs end meanwhile, one a look."""

    def set_up(raw: dict[str, object], *runs: Run) -> None:
        left = list(runs)

        def sleep(_seconds: float) -> None:
            write_run(runs_dir, left.pop(0), 50.0)

        monkeypatch.setattr(wait.time, "sleep", sleep)
        # What was said before the waiting began tells nothing of it.
        monkeypatch.setattr(queue, "read_raw", lambda *_: RawQueue(**{**raw, "taken": 4e9}))

    return set_up


def test_it_returns_when_each_run_has_its_result(
    runs_dir: Path,
    students: list[Run],
    finishing: Callable[..., None],
    told: pytest.LogCaptureFixture,
) -> None:
    finishing(RECORDED, *students[4:6])
    assert wait.wait_for([run.key for run in students[4:6]], runs_dir, 0.0) == 0


def test_what_left_the_queue_without_a_result_is_a_failure(
    runs_dir: Path,
    students: list[Run],
    finishing: Callable[..., None],
    told: pytest.LogCaptureFixture,
) -> None:
    finishing(RECORDED, students[4])
    assert wait.wait_for([students[0].key, students[4].key], runs_dir, 0.0) == 1
    assert told.messages[0] == "0 of 2 runs have their result, 1 running"
    assert told.messages[-1] == "ended without a result, or held: 1 run"


def test_why_tasks_wait_is_told(
    runs_dir: Path,
    students: list[Run],
    finishing: Callable[..., None],
    told: pytest.LogCaptureFixture,
) -> None:
    raw = {**RECORDED, "squeue": RECORDED["squeue"].replace("BeginTime", "PartitionDown")}
    finishing(raw, students[2])
    assert wait.wait_for([students[2].key], runs_dir, 0.0) == 0
    assert told.messages[0] == "0 of 1 runs have their result, 1 requeued (PartitionDown)"


def test_what_is_held_is_not_waited_for(
    runs_dir: Path,
    students: list[Run],
    finishing: Callable[..., None],
    told: pytest.LogCaptureFixture,
) -> None:
    finishing(HELD)
    assert wait.wait_for([students[2].key], runs_dir, 0.0) == 1


@pytest.mark.parametrize("failing", [False, True])
def test_tasks_without_results_are_waited_for(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch, failing: bool
) -> None:
    (folder, *_) = {array.folder for array in sent_arrays(runs_dir) if array.job == 96}
    said = [RECORDED, {**RECORDED, "squeue": ""}]
    asked: list[object] = []

    def read_raw(*_: object) -> RawQueue:
        asked.append(said[len(asked)])
        return RawQueue(**{**said[len(asked) - 1], "taken": 4e9})

    monkeypatch.setattr(wait.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(queue, "read_raw", read_raw)
    if failing:
        note_failure(folder, "96_0", "no space is left for the answers")
    assert wait.wait_for_tasks(folder, runs_dir, 0.0) == int(failing)
    assert len(asked) == 2
