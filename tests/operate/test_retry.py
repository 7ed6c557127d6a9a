"""What is submitted again, and what is left alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.cli.words.retry import lines
from benchmark.monitor.look import look
from benchmark.operate import retry as module
from benchmark.operate.retry import choose, retry
from benchmark.operate.stop import cancel
from benchmark.planning.packs import Pack, make_packs
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.slurm import queue
from benchmark.slurm.profile import Profile
from benchmark.slurm.queue import RawQueue
from benchmark.slurm.site import Site
from benchmark.submission.inline import InlineExecutor, executor
from benchmark.submission.slurm import SlurmExecutor
from benchmark.submission.submission import Prepared, Queue, Submission
from tests import submitted
from tests.helpers import digits_plan
from tests.submitted import HELD, RECORDED, failed, state

pytestmark = pytest.mark.usefixtures("called")


def test_retry_takes_the_runs_back_from_their_packs_up_to_a_cap(
    runs_dir: Path, digits: Path, students: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed(runs_dir, students[0], "no data", count=2)
    failed(runs_dir, students[1], "no data", count=3)
    failed(runs_dir, students[11], "no data")  # of no submission
    seen = look(runs_dir)
    keys = [students[number].key for number in (0, 1, 3, 11)]
    chosen = choose(keys, seen, 3)
    ((origin, runs),) = chosen.runs.items()
    assert [run.key for run in runs] == [students[0].key, students[3].key]
    assert origin.cluster == "slurm"
    assert origin.data_dir == digits.resolve()
    assert chosen.worn_out == (students[1].key,)
    assert chosen.lost == (students[11].key,)
    monkeypatch.setattr(module, "executor_as_sent", lambda *sent: executor())
    found = retry(runs_dir, None, failed=True, cancelled=False, dry_run=True)
    assert found.code == 0
    assert "3 x no data" in lines(found)
    assert "1 run failed 3 times with the same error" in " ".join(lines(found))
    assert state(runs_dir, students[0]) == "failed"


def test_students_whose_teacher_nobody_trains_are_left_out(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = digits_plan(digits, ["row=KD", "column=wrn_16_2-resnet8"])
    teacher, student = plan.runs
    packs = [Pack("digits", (teacher,)), Pack("digits", (student,))]
    submitted.in_slurm(tmp_path, digits, packs, 96)
    monkeypatch.setattr(module, "executor_as_sent", lambda *sent: executor())
    failed(tmp_path, student, "its teacher has no result")
    RunDir(tmp_path, teacher.key).create(teacher)
    RunDir(tmp_path, teacher.key).cancelled.touch()

    def dry(cancelled: bool = False) -> str:
        found = retry(tmp_path, None, failed=True, cancelled=cancelled, dry_run=True)
        return " ".join(" ".join(lines(found)).split())

    assert f"1 run left out, since nobody trains their teacher ({teacher.key})" in dry()
    assert "would go" not in dry()
    both = dry(cancelled=True)
    assert "digits: 2 runs would go to slurm" in both
    assert "GB of disk" in both  # the estimate
    RunDir(tmp_path, teacher.key).cancelled.unlink()
    failed(tmp_path, teacher, "no data", count=3)
    assert "1 run left out" in dry()


def test_what_is_held_after_failures_is_sent_anew(
    runs_dir: Path,
    students: list[Run],
    called: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Merely released, a student would start before its teacher, which is retried, is there."""
    sent: list[Run] = []

    class Noting(InlineExecutor):
        def prepare(self, submission: Submission, queue: Queue) -> Prepared:
            def send(wait: bool) -> int:
                sent.extend(submission.runs)
                return 0

            return Prepared((), send)

    monkeypatch.setattr(module, "executor_as_sent", lambda *_: Noting("cpu"))
    (folder,) = (runs_dir / ".submissions").iterdir()
    (folder / "held.json").write_text('{"schema": 1, "reason": "no data"}')
    monkeypatch.setattr(queue, "read_raw", lambda *question: RawQueue(**HELD))
    found = retry(runs_dir, None, failed=True, cancelled=False)
    assert "held after: no data" in lines(found)
    assert students[2].key in {run.key for run in sent}
    assert called[0] == ["scancel", "96_[2]"]
    assert not (folder / "held.json").exists()


def test_retry_lifts_the_mark_of_what_was_cancelled_and_trains_it(
    tmp_path: Path, digits: Path, students: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted.local(tmp_path, digits, [Pack("digits", (students[6],))])
    cancel(tmp_path, None, students[6].key, False)
    found = retry(tmp_path, None, failed=True, cancelled=False)
    assert lines(found) == ["nothing to retry (1 run is cancelled: --cancelled)"]
    monkeypatch.setattr(module, "executor_for", lambda *names: executor())
    found = retry(tmp_path, "digits", failed=False, cancelled=True)
    assert (lines(found), found.code) == (["digits: 1 run goes to local again"], 0)
    assert state(tmp_path, students[6]) == "done"


# -- every check of submit holds for retry ---------------------------------------------------------


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries train in this process."""
    monkeypatch.setattr(module, "executor_as_sent", lambda *sent: executor())


@pytest.mark.usefixtures("here")
def test_without_its_data_nothing_is_retried(
    runs_dir: Path, digits: Path, students: list[Run], tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    for path in (runs_dir / ".submissions").glob("*/array-0.jsonl"):
        text = path.read_text().replace(str(digits), str(gone).ljust(len(str(digits)), "_"))
        path.write_text(text[: path.stat().st_size])
    failed(runs_dir, students[0], "no data")
    with pytest.raises(UserError, match="digits"):
        retry(runs_dir, None, failed=True, cancelled=False, dry_run=True)


@pytest.mark.usefixtures("here")
def test_one_run_that_cannot_be_retried_does_not_keep_the_others(
    runs_dir: Path, students: list[Run]
) -> None:
    torn, well = (failed(runs_dir, run, "no data") for run in students[:2])
    torn.checkpoint.write_bytes(b"torn")
    found = retry(runs_dir, None, failed=True, cancelled=False)
    assert found.code == 1
    assert list(found.refused) == [torn.key]
    assert f"left out: {torn.key}: " in " ".join(lines(found))
    assert str(torn.checkpoint) in found.refused[torn.key]
    assert state(runs_dir, students[1]) == "done"
    assert well.result.exists()
    # Alone it is an error.
    with pytest.raises(UserError, match=re.escape(str(torn.checkpoint))):
        retry(runs_dir, None, failed=True, cancelled=False)


def _ended(state: str) -> RawQueue:
    """The recorded queue after the task of the first student ended in a state."""
    sacct = RECORDED["sacct"].replace("FAILED", state)
    return RawQueue(**{**RECORDED, "squeue": "", "sacct": sacct})


@pytest.mark.usefixtures("here")
def test_what_slurm_ended_counts_as_an_attempt(
    runs_dir: Path, digits: Path, students: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a task leaves nothing by which its run could count it."""
    monkeypatch.setattr(queue, "read_raw", lambda *question, **_: _ended("OUT_OF_MEMORY"))
    key = students[0].key
    assert look(runs_dir).standings[key].attempts == 1
    submitted.in_slurm(runs_dir, digits, [Pack("digits", students[:1])], 96)
    assert look(runs_dir).standings[key].attempts == 2
    found = retry(runs_dir, None, failed=True, cancelled=False, cap=2, dry_run=True)
    assert key in found.chosen.worn_out


def test_a_pack_that_died_for_memory_comes_back_in_halves(
    tmp_path: Path, digits: Path, students: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = make_packs("digits", students, [])[0]
    assert len(pack.runs) > 1
    submitted.in_slurm(tmp_path, digits, [pack], 96)
    monkeypatch.setattr(queue, "read_raw", lambda *question, **_: _ended("OUT_OF_MEMORY"))
    killed = SlurmExecutor(Profile(), Site()).queue(tmp_path).killed
    assert killed == {run.key: len(pack.runs) for run in pack.runs}

    class Dead(InlineExecutor):
        def queue(self, runs_dir: Path) -> Queue:
            return Queue(killed=killed)

    monkeypatch.setattr(module, "executor_as_sent", lambda *_: Dead("cpu"))
    found = retry(tmp_path, None, failed=True, cancelled=False, dry_run=True)
    ((_, ready),) = found.ready
    half = len(pack.runs) // 2
    assert max(len(each.runs) for each in ready.submission.packs) <= half
    assert {run.key for run in ready.submission.runs} == set(killed)


def test_runs_of_one_kind_go_as_one_submission(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A teacher and its students that were sent apart go together, so that these wait for it."""
    teacher, student = digits_plan(digits, ["row=KD", "column=wrn_16_2-resnet8"]).runs
    for run in (student, teacher):
        submitted.in_slurm(tmp_path, digits, [Pack("digits", (run,))], 96)
        failed(tmp_path, run, "no data")
    monkeypatch.setattr(module, "executor_as_sent", lambda *_: executor())
    ((_, ready),) = retry(tmp_path, None, failed=True, cancelled=False, dry_run=True).ready
    first, second = ready.submission.packs
    assert (first.runs, second.runs) == ((teacher,), (student,))
    assert second.depends == (first.id,)
