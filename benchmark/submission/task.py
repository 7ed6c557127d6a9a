"""One array task: finds its pack, trains it, and comes back after an interruption.

``python -m benchmark.submission.task ARRAY.jsonl``, started by the script of an array.
"""

from __future__ import annotations

import math
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmark.base.errors import UserError
from benchmark.slurm import commands
from benchmark.slurm.arrays import read_pack
from benchmark.slurm.survive import EXIT_INTERRUPTED, Interruption, settle, this_job
from benchmark.slurm.tag import Tag
from benchmark.submission import marks
from benchmark.submission.sent import paused

if TYPE_CHECKING:
    from benchmark.train.watcher import Outcome

Pack = dict[str, Any]
_PAUSED_SECONDS = 5.0


class Report(NamedTuple):
    """How a pack's training ended.

    ``code``: 0 when every run has its result, 1 otherwise. ``reasons``: a line for each run
    that failed. ``interrupted``: whether the interruption was heeded. ``advanced``: whether
    the checkpoints are further than at the start. ``cancelled``: whether all that is left was
    cancelled.
    """

    code: int
    reasons: tuple[str, ...] = ()
    interrupted: bool = False
    advanced: bool = False
    cancelled: bool = False


Train = Callable[[Pack, Interruption], Report]


def run_task(array: Path, train: Train) -> int:
    """Run this process's task of an array and return its exit code."""
    interruption = Interruption().install()
    number = int(os.environ["SLURM_ARRAY_TASK_ID"])
    task = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{number}"
    reason = marks.held(array.parent)
    if reason is not None:
        _say(f"not started: this submission is held ({reason})")
        return 1
    try:
        code = _hold_back(array.parent, task, interruption)
        if code is not None:
            return code
        pack = read_pack(array, number)
        _show(pack)
        report = train(pack, interruption)
    except UserError as error:
        _say(str(error))
        report = Report(1, (str(error),))
    if report.interrupted and interruption.received is not None:
        return _leave(interruption, report)
    for reason in report.reasons:
        _say(reason)
    if report.reasons:
        _fail(array.parent, task, report.reasons[0])
    return report.code


def _hold_back(folder: Path, task: str, interruption: Interruption) -> int | None:
    """Go back into the queue, held, where the submission is paused: whoever resumes starts it.

    It waits here while Slurm does not answer, until it is resumed or interrupted. Returns the
    exit code, None where it may start.
    """
    while (reason := paused(folder)) is not None:
        if interruption:
            return _leave(interruption, Report(1, interrupted=True, advanced=True))
        _say(f"not started: {reason}")
        try:
            commands.ask(["scontrol", "requeuehold", task])
            return EXIT_INTERRUPTED
        except commands.SlurmError as error:
            _say(str(error))
            time.sleep(_PAUSED_SECONDS)
    return None


def _leave(interruption: Interruption, report: Report) -> int:
    job = this_job()
    assert interruption.received is not None
    if job is None:
        return EXIT_INTERRUPTED
    decision = settle(
        interruption.received,
        job=job[0],
        restarts=job[1],
        advanced=report.advanced,
        cancelled=report.cancelled,
    )
    _say(f"{interruption.received.name}: {decision.reason}; {decision.action}")
    return decision.code


def _fail(folder: Path, task: str, reason: str) -> None:
    try:
        if marks.note_failure(folder, task, reason):
            _say(f"{marks.LIMIT} tasks failed alike, holding the rest: {reason}")
            marks.hold(folder, reason)
    except (OSError, UserError) as error:
        _say(f"could not note this failure: {error}")


def _show(pack: Pack) -> None:
    """Let squeue and sacct show this task's pack instead of the array's size."""
    nonce = os.environ.get("BENCH_NONCE", "")
    tag = Tag(str(pack["table"]), str(pack["label"]), nonce)
    job = this_job()
    if nonce and job is not None:
        # For people only: where slurmctld is busy, the task starts without it.
        commands.call(
            ["scontrol", "update", f"JobId={job[0]}", f"Comment={tag.comment}"], timeout=5
        )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# -- training -----------------------------------------------------------------------------------


def train(pack: Pack, interruption: Interruption) -> Report:
    """Train a pack here until it is done or interrupted."""
    from benchmark.train.pack import Surroundings, train_pack
    from benchmark.train.report import Lines

    where = Surroundings(
        runs_dir=Path(pack["runs_dir"]),
        data_dir=Path(pack["data_dir"]),
        reader=pack["reader"],
        stop=lambda: interruption.received.name if interruption.received else None,
        reporter=Lines,
        **checkpoint_seconds(),
    )
    if not where.runs_dir.is_dir():
        raise UserError(f"the runs directory {where.runs_dir} is not visible on {os.uname()[1]}")
    try:
        return report_of(train_pack(pack, where))
    except UserError:
        raise
    except Exception as error:  # a failure like any other, whose traceback goes to the log
        traceback.print_exc()
        words = " ".join(str(error).split()) or "no reason given"
        return Report(1, (f"{type(error).__name__}: {words}",))


def report_of(outcome: Outcome) -> Report:
    """Say of a pack's outcome what a task has to know.

    A run that another process holds, or that is cancelled, is no failure.
    """
    endings = set(outcome.endings.values())
    failed = [key for key, ending in outcome.endings.items() if ending == "failed"]
    return Report(
        code=outcome.exit_code,
        reasons=tuple(outcome.reasons.get(key, "no reason given") for key in failed),
        interrupted=bool(endings & {"interrupted", "cancelled"}),
        advanced=outcome.advanced,
        cancelled="cancelled" in endings and "interrupted" not in endings,
    )


def checkpoint_seconds() -> dict[str, float]:
    """How often to save, where BENCH_CHECKPOINT_SECONDS says it; never a matter of numbers.

    Raises UserError where that is no number of seconds.
    """
    text = os.environ.get("BENCH_CHECKPOINT_SECONDS")
    if text is None:
        return {}
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UserError(f"BENCH_CHECKPOINT_SECONDS is '{text}', which is no number of seconds")
    return {"checkpoint_seconds": seconds}


if __name__ == "__main__":
    raise SystemExit(run_task(Path(sys.argv[1]), train))
