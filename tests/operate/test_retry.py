"""What is submitted again, and what is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.monitor.look import look
from benchmark.operate import retry as module
from benchmark.operate.retry import choose, retry
from benchmark.operate.stop import cancel
from benchmark.planning.packs import Pack
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.slurm import queue
from benchmark.slurm.queue import RawQueue
from benchmark.submission.inline import InlineExecutor
from benchmark.submission.submission import Submission
from tests import submitted
from tests.helpers import digits_plan
from tests.submitted import HELD, failed, state

pytestmark = pytest.mark.usefixtures("called")


def test_retry_takes_the_runs_back_from_their_packs_up_to_a_cap(
    runs_dir: Path, digits: Path, students: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed(runs_dir, students[0], "no data", count=2)
    failed(runs_dir, students[1], "no data", count=3)
    failed(runs_dir, students[11], "no data")  # of no submission
    seen = look(runs_dir)
    keys = [students[number].key for number in (0, 1, 3, 11)]
    chosen = choose(runs_dir, keys, seen, 3)
    ((origin, runs),) = chosen.runs.items()
    assert [run.key for run in runs] == [students[0].key, students[3].key]
    assert origin.cluster == "slurm"
    assert origin.data_dir == str(digits.resolve())
    assert chosen.worn_out == (students[1].key,)
    assert chosen.lost == (students[11].key,)
    monkeypatch.setattr(module, "executor_for", lambda *names: (InlineExecutor(), "cpu"))
    lines, code = retry(runs_dir, None, failed=True, cancelled=False, dry_run=True)
    assert code == 0
    assert "3 x no data" in lines
    assert "1 run failed alike 3 times" in " ".join(lines)
    assert state(runs_dir, students[0]) == "failed"


def test_students_whose_teacher_nobody_trains_are_left_out(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = digits_plan(digits, ["row=KD", "column=wrn_16_2-resnet8"])
    teacher, student = plan.runs
    packs = [Pack("digits", (teacher,)), Pack("digits", (student,))]
    submitted.in_slurm(tmp_path, digits, packs, 96)
    monkeypatch.setattr(module, "executor_for", lambda *names: (InlineExecutor(), "cpu"))
    failed(tmp_path, student, "its teacher has no result")
    RunDir(tmp_path, teacher.key).create(teacher)
    RunDir(tmp_path, teacher.key).cancelled.touch()

    def dry(cancelled: bool = False) -> str:
        lines, _ = retry(tmp_path, None, failed=True, cancelled=cancelled, dry_run=True)
        return " ".join(" ".join(lines).split())

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
        def start(self, submission: Submission, wait: bool) -> int:
            sent.extend(run for pack in submission.packs for run in pack.runs)
            return 0

    monkeypatch.setattr(module, "executor_for", lambda *names: (Noting(), "cpu"))
    (folder,) = (runs_dir / ".submissions").iterdir()
    (folder / "held.json").write_text('{"schema": 1, "reason": "no data"}')
    monkeypatch.setattr(queue, "read_raw", lambda *question: RawQueue(**HELD))
    lines, _ = retry(runs_dir, None, failed=True, cancelled=False)
    assert "held after: no data" in lines
    assert students[2].key in {run.key for run in sent}
    assert called[0] == ["scancel", "96_[2]"]
    assert not (folder / "held.json").exists()


def test_retry_lifts_the_mark_of_what_was_cancelled_and_trains_it(
    tmp_path: Path, digits: Path, students: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted.local(tmp_path, digits, [Pack("digits", (students[6],))])
    cancel(tmp_path, None, students[6].key, False)
    lines, _ = retry(tmp_path, None, failed=True, cancelled=False)
    assert lines == ["nothing to retry (1 run is cancelled: --cancelled)"]
    monkeypatch.setattr(module, "executor_for", lambda *names: (InlineExecutor(), "cpu"))
    lines, code = retry(tmp_path, "digits", failed=False, cancelled=True)
    assert (lines, code) == (["digits: 1 run goes to local again"], 0)
    assert state(tmp_path, students[6]) == "done"
