"""How one run stands, from its files and from what is known of its task. Pure.

Files come first: a result is the end of it, a heartbeat is life. What squeue knows wins over
what an earlier attempt left behind, so a run whose node failed and that waits to run again is
queued, not failed. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from benchmark.run.lease import STALE_SECONDS
from benchmark.run.reading import Reading
from benchmark.run.state import CELL_ORDER, ENDED, RunState
from benchmark.submission.sent import Work

# An epoch that takes this many times longer than the one before it is slow.
_SLOW_FACTOR = 3.0
_SLOW_SECONDS = 300.0
_FINAL = ENDED | {RunState.CANCELLED, RunState.DAMAGED}  # whatever a queue says


class Standing(NamedTuple):
    """One run now. ``reason``: why it failed, is damaged, was held or stopped.

    ``stuck``: seconds without a sign of life of a run that is held. ``slow``: seconds since
    its last epoch, if that is unusual for it. ``attempts``: how often it failed, by its own files
    or by what Slurm says of the tasks that had it.
    """

    name: RunState
    reason: str = ""
    requeued: bool = False
    stuck: float | None = None
    slow: float | None = None
    attempts: int = 0


def stand(found: Reading, work: Work | None, answered: float | None, noted: str = "") -> Standing:
    """Return how a run stands.

    ``answered``: how many seconds ago Slurm did, None if it did not. ``noted``: the failure that
    its task noted itself.
    """
    if found.state in _FINAL:
        return Standing(found.state, found.reason if found.state is RunState.DAMAGED else "")
    if found.silence is not None:
        if found.silence < STALE_SECONDS and not _over(found, work, answered):
            return Standing(RunState.RUNNING, slow=_slow(found))
        asked = work is not None and work.in_slurm and answered is not None
        if work is None or not (work.in_slurm or work.living):
            return _left_behind(found)._replace(stuck=found.silence)
        if not (asked and work is not None and work.state.name != "running"):
            return Standing(RunState.RUNNING, stuck=found.silence)
    if work is None:
        return _left_behind(found)
    if work.living:
        return _living(found, work)
    return _not_living(found, work, noted)


def _over(found: Reading, work: Work | None, answered: float | None) -> bool:
    """Tell whether Slurm says that the task which holds a run has ended since it was last heard."""
    if work is None or answered is None or found.silence is None or found.silence < answered:
        return False
    ended = work.in_slurm and work.state.name == "ended"
    return ended and found.holder.startswith(f"task {work.task} on ")


def _living(found: Reading, work: Work) -> Standing:
    if work.state.name == "running":
        # Its pack goes on without it, or has just started.
        if found.failed > (work.start or 0.0):
            return Standing(RunState.FAILED, found.reason)
        return Standing(RunState.RUNNING)
    if not work.in_slurm and found.failed > work.array.sent:
        return Standing(RunState.FAILED, found.reason)
    if work.state.held:
        return Standing(RunState.HELD, work.state.detail, requeued=work.state.name == "requeued")
    return Standing(RunState.QUEUED, work.state.detail, requeued=work.state.name == "requeued")


def _not_living(found: Reading, work: Work, noted: str) -> Standing:
    if found.state is RunState.FAILED:
        return Standing(RunState.FAILED, found.reason)
    if noted:
        return Standing(RunState.FAILED, noted)
    if work.state.name == "ended" and work.in_slurm:
        ended = work.state.detail
        if ended == "CANCELLED":
            return Standing(RunState.STOPPED, "cancelled with scancel")
        if ended in ("COMPLETED", ""):
            return Standing(RunState.STOPPED, "its task ended without a result")
        return Standing(RunState.FAILED, f"Slurm ended its task: {ended}")
    if work.in_slurm and found.state is RunState.MISSING:
        return Standing(RunState.UNKNOWN)
    return _left_behind(found, work.stopped)


def failing(work: Work) -> bool:
    """Tell whether Slurm ended a task of its own accord: out of memory, out of time, node lost."""
    ended = work.in_slurm and work.state.name == "ended"
    return ended and work.state.detail not in ("COMPLETED", "CANCELLED", "")


def _left_behind(found: Reading, by: str = "") -> Standing:
    if found.state is RunState.FAILED:
        return Standing(RunState.FAILED, found.reason)
    if found.state is RunState.MISSING:
        return Standing(RunState.MISSING)
    return Standing(RunState.STOPPED, by or "ended without a word")


def _slow(found: Reading) -> float | None:
    progress = found.progress
    if progress is None or progress.age < max(_SLOW_SECONDS, _SLOW_FACTOR * progress.seconds):
        return None
    return progress.age


def cell_state(runs: Collection[RunState]) -> RunState:
    """Return the state of a cell whose runs have these states."""
    return next(name for name in CELL_ORDER if name in runs)
