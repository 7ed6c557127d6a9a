"""One array task: finds its pack, trains it, and comes back after an interruption.

``python -m benchmark.cluster.task ARRAY.jsonl``, started by the script of an array.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.cluster import hold, slurm
from benchmark.cluster.arrays import read_pack
from benchmark.cluster.survive import EXIT_INTERRUPTED, Interruption, settle, this_job
from benchmark.cluster.tag import Tag
from benchmark.errors import UserError

Pack = dict[str, Any]


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
    reason = hold.held(array.parent)
    if reason is not None:
        _say(f"not started: this submission is held ({reason})")
        return 1
    try:
        pack = read_pack(array, number)
        _show(pack)
        report = train(pack, interruption)
    except UserError as error:
        _say(str(error))
        report = Report(1, (str(error),))
    if report.interrupted and interruption.received is not None:
        return _leave(interruption, report)
    if report.reasons:
        _fail(array.parent, task, report.reasons[0])
    return report.code


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
        if hold.note_failure(folder, task, reason):
            _say(f"{hold.LIMIT} tasks failed alike, holding the rest: {reason}")
            hold.hold(folder, reason)
    except (OSError, UserError) as error:
        _say(f"could not note this failure: {error}")


def _show(pack: Pack) -> None:
    """Let squeue and sacct show this task's pack instead of the array's size."""
    nonce = os.environ.get("BENCH_NONCE", "")
    tag = Tag(str(pack["table"]), str(pack["label"]), nonce)
    job = this_job()
    if nonce and job is not None:
        # For people only: where slurmctld is busy, the task starts without it.
        slurm.call(["scontrol", "update", f"JobId={job[0]}", f"Comment={tag.comment}"], timeout=5)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
