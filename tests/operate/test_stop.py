"""Cancel, pause and resume, on real run directories and a recorded queue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.base.errors import UserError
from benchmark.cli.words import operate as words
from benchmark.monitor.look import look
from benchmark.operate.stop import cancel, pause, resume
from benchmark.planning.packs import Pack
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.run.lease import Lease, RunHeldError
from benchmark.run.pack_file import PackFile
from benchmark.slurm import commands, queue
from benchmark.slurm.commands import Reply
from benchmark.slurm.queue import RawQueue
from benchmark.submission import inline
from benchmark.submission.folder import Folder
from benchmark.submission.inline import executor
from benchmark.submission.marks import at_work, is_at_work, paused
from benchmark.submission.submission import Queue, new_submission
from benchmark.train.watcher import Outcome
from tests import submitted
from tests.submitted import HELD, RECORDED, silent, started, state

pytestmark = pytest.mark.usefixtures("called")


def test_cancelling_marks_the_runs_before_it_tells_slurm(
    runs_dir: Path,
    students: list[Run],
    called: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marked: list[bool] = []

    def call(command: list[str], timeout: float = 30.0) -> Reply:
        marked.extend(RunDir(runs_dir, run.key).cancelled.exists() for run in students[:6])
        called.append(command)
        return Reply(0, "", "", 0.0)

    monkeypatch.setattr(commands, "call", call)
    lines = words.cancelled(cancel(runs_dir, "digits", None, False))
    assert lines[0] == "cancelled 3 runs: 3 tasks taken from Slurm"
    assert called == [["scancel", "96_[2,4-5]"]]
    # What has ended already keeps its own state.
    assert marked == [False, False, True, False, True, True]
    assert state(runs_dir, students[4]) == "cancelled"


def test_a_run_of_a_pack_is_cancelled_without_its_neighbours(
    tmp_path: Path, digits: Path, students: list[Run], called: list[list[str]]
) -> None:
    pack = Pack("digits", tuple(students[:2]))
    submitted.in_slurm(tmp_path, digits, [pack] * 5, 96)
    cancel(tmp_path, None, students[0].key, False)
    assert called == []
    cancel(tmp_path, None, students[1].key, False)
    assert called == [["scancel", "96_[2,4]"]]


def test_cancelling_while_slurm_is_down_says_that_the_marks_stand(
    runs_dir: Path,
    students: list[Run],
    called: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue, "read_raw", silent)
    with pytest.raises(UserError, match=r"6 runs marked .*slurmctld cannot be reached"):
        cancel(runs_dir, None, None, True)
    assert state(runs_dir, students[5]) == "cancelled"
    monkeypatch.setattr(queue, "read_raw", lambda *question: RawQueue(**RECORDED))
    lines = words.cancelled(cancel(runs_dir, None, None, True))
    assert lines[0].startswith("3 tasks taken from Slurm: all of their runs were cancelled before")
    assert called == [["scancel", "96_[2,4-5]"]]


def test_runs_that_train_on_this_machine_are_told_by_their_mark(
    tmp_path: Path, students: list[Run]
) -> None:
    rundir = started(tmp_path, students[0], epoch=1)
    lease = Lease.acquire(rundir)
    lines = words.cancelled(cancel(tmp_path, None, students[0].slug, False))
    assert "1 run in training now: saved and left at the next heartbeat (15 s)" in lines
    assert rundir.cancelled.exists()
    lease.release()


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("act", "told", "marked"),
    [
        (
            lambda runs: cancel(runs, None, None, True),
            r"runs? marked as cancelled.*cancel again",
            0,
        ),
        (lambda runs: pause(runs, None), r"1 submission marked as paused.*pause again", 1),
        (lambda runs: resume(runs, None), r"1 submission in Slurm stay paused.*resume again", 1),
    ],
)
def test_what_slurm_is_not_told_is_no_success(
    runs_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Path], object],
    told: str,
    marked: int,
    known: bool,
) -> None:
    if "resume" in told:
        pause(runs_dir, None)
    if known:
        look(runs_dir)  # what it said is kept

    monkeypatch.setattr(queue, "read_raw", silent)
    with pytest.raises(UserError, match=f"{told} when it answers"):
        act(runs_dir)
    (folder,) = (runs_dir / ".submissions").iterdir()
    assert bool(paused(Folder(folder))) == bool(marked)


def test_slurm_that_stops_in_between_is_no_success_either(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    monkeypatch.setattr(commands, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(commands, "call", lambda command, timeout=0.0: Reply(1, "", refused, 0.1))
    with pytest.raises(UserError, match=r"marked as paused.*slurmctld cannot be reached"):
        pause(runs_dir, None)
    with pytest.raises(UserError, match="stay paused"):
        resume(runs_dir, None)
    with pytest.raises(UserError, match="marked as cancelled"):
        cancel(runs_dir, None, None, True)


def test_broken_marks_still_hold(runs_dir: Path, students: list[Run]) -> None:
    (folder,) = (runs_dir / ".submissions").iterdir()
    for name in ("paused.json", "held.json"):
        (folder / name).write_text("")
    assert f"{folder}/held.json cannot be read" in look(runs_dir).works[students[2].key].held
    (folder / "held.json").unlink()
    assert words.resumed(resume(runs_dir, None)) == ["resumed 1 submission"]
    assert paused(Folder(folder)) is None


def test_pausing_holds_what_waits_and_resuming_releases_it(
    runs_dir: Path, called: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = words.paused(pause(runs_dir, "digits"))
    assert lines[0] == "paused 1 submission: 1 run will not start"
    assert lines[1] == "2 runs in training go on to their end"
    assert called == [["scontrol", "hold", "96"]]
    monkeypatch.setattr(queue, "read_raw", lambda *question: RawQueue(**HELD))
    assert words.paused(pause(runs_dir, "digits"))[0] == lines[0]
    called.pop()
    assert words.resumed(resume(runs_dir, None)) == ["resumed 1 submission"]
    assert called[1:] == [["scontrol", "release", "96"]]
    monkeypatch.setattr(queue, "read_raw", lambda *question: RawQueue(**RECORDED))
    assert words.resumed(resume(runs_dir, None)) == ["resumed 0 submissions"]


def test_what_slurm_holds_is_released_unless_an_operator_holds_it(
    runs_dir: Path, called: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {**RECORDED, "squeue": RECORDED["squeue"].replace("BeginTime", "JobHeldAdmin")}
    monkeypatch.setattr(queue, "read_raw", lambda *question: RawQueue(**held))
    assert words.resumed(resume(runs_dir, None)) == [
        "resumed 1 submission",
        "released 1 task that Slurm held: JobHeldAdmin",
    ]
    assert called == [["scontrol", "release", "96"]]
    # As Slurm answers an ordinary user.
    said = "Access/permission denied for job 96\nslurm_suspend error: Access/permission denied\n"
    monkeypatch.setattr(commands, "call", lambda command, timeout=30.0: Reply(1, "", said, 0.1))
    lines = words.resumed(resume(runs_dir, None))
    assert lines[:2] == ["resumed 0 submissions", lines[1]]
    assert "Slurm does not release what an operator holds" in lines[1]


def test_resuming_leaves_alone_what_is_held_after_failures(
    runs_dir: Path, called: list[list[str]]
) -> None:
    pause(runs_dir, None)
    (folder,) = (runs_dir / ".submissions").iterdir()
    (folder / "held.json").write_text('{"schema": 1, "reason": "no data"}')
    called.clear()
    assert "held after failures" in words.resumed(resume(runs_dir, None))[-1]
    assert called == []


def test_a_paused_local_queue_starts_nothing(
    tmp_path: Path, digits: Path, students: list[Run]
) -> None:
    folder = submitted.local(tmp_path, digits, [Pack("digits", (students[0],))])
    assert state(tmp_path, students[0]) == "missing"
    with at_work(folder):
        assert is_at_work(folder)
        assert state(tmp_path, students[0]) == "queued"
        with pytest.raises(RunHeldError), at_work(folder):
            pass
        pause(tmp_path, None)
        assert paused(Folder(folder))
        assert state(tmp_path, students[0]) == "held"
        resume(tmp_path, None)
        assert state(tmp_path, students[0]) == "queued"
    assert not is_at_work(folder)


def test_what_is_trained_in_a_process_is_paused_between_packs(
    tmp_path: Path, digits: Path, students: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    states: list[str] = []
    train_in_processes = inline.train_in_processes

    def train_then_pause(pack: PackFile, *where: Any) -> Outcome:
        found = train_in_processes(pack, *where)
        trained.extend(found.endings)
        if len(trained) == 1:
            pause(tmp_path, None)
        return found

    def wait(seconds: float) -> None:
        states.append(state(tmp_path, students[7]))
        resume(tmp_path, None)

    monkeypatch.setattr(inline, "train_in_processes", train_then_pause)
    monkeypatch.setattr(inline.time, "sleep", wait)
    packs = [Pack("digits", (run,)) for run in students[6:8]]
    submission = new_submission("digits", packs, tmp_path, digits)
    assert executor().prepare(submission, Queue()).send(True) == 0
    assert trained == [run.key for run in students[6:8]]
    assert states[-1] == "held"
