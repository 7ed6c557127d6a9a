"""How one run stands, from its files and from what is known of its task. Pure.

Files come first: a result is the end of it, a heartbeat is life. What squeue knows wins over
what an earlier attempt left behind, so a run whose node failed and that waits to run again is
queued, not failed. Imports no torch.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from benchmark.run.lease import STALE_SECONDS
from benchmark.run.vitals import Vitals
from benchmark.submission.sent import Work

Name = Literal[
    "done",
    "running",
    "queued",
    "held",
    "failed",
    "diverged",
    "stopped",
    "unknown",
    "cancelled",
    "missing",
]
# An epoch that takes this many times longer than the one before it is slow.
_SLOW_FACTOR = 3.0
_SLOW_SECONDS = 300.0
# In which of its runs' states a cell is: the first that any of them has.
CELL_ORDER: tuple[Name, ...] = (
    "failed",
    "held",
    "running",
    "queued",
    "unknown",
    "stopped",
    "diverged",
    "cancelled",
    "missing",
    "done",
)


class Standing(NamedTuple):
    """One run now. ``reason``: why it failed, was held or stopped.

    ``stuck``: seconds without a sign of life of a run that is held. ``slow``: seconds since
    its last epoch, where that is unusual for it.
    """

    name: Name
    reason: str = ""
    requeued: bool = False
    stuck: float | None = None
    slow: float | None = None


def stand(vitals: Vitals, work: Work | None, asked: bool, noted: str = "") -> Standing:
    """Return how a run stands.

    ``asked``: whether Slurm answered. ``noted``: the failure that its task noted itself.
    """
    if vitals.state == "done" or vitals.state == "diverged" or vitals.state == "cancelled":
        return Standing(vitals.state)
    if vitals.silence is not None:
        if vitals.silence < STALE_SECONDS:
            return Standing("running", slow=_slow(vitals))
        gone = work is not None and work.in_slurm and asked and work.state.name != "running"
        if not gone:
            return Standing("running", stuck=vitals.silence)
    if work is None:
        return _left_behind(vitals)
    if work.living:
        return _living(vitals, work)
    return _not_living(vitals, work, asked, noted)


def _living(vitals: Vitals, work: Work) -> Standing:
    if work.state.name == "running":
        # Its pack goes on without it, or has just started.
        if vitals.failed > (work.start or 0.0):
            return Standing("failed", vitals.reason)
        return Standing("running")
    if not work.in_slurm and vitals.failed > work.folder.stat().st_ctime:
        return Standing("failed", vitals.reason)
    if work.state.held:
        return Standing("held", work.state.detail, requeued=work.state.name == "requeued")
    return Standing("queued", work.state.detail, requeued=work.state.name == "requeued")


def _not_living(vitals: Vitals, work: Work, asked: bool, noted: str) -> Standing:
    if vitals.state == "failed":
        return Standing("failed", vitals.reason)
    if noted:
        return Standing("failed", noted)
    if work.state.name == "ended" and work.in_slurm:
        ended = work.state.detail
        if ended == "CANCELLED":
            return Standing("stopped", "cancelled with scancel")
        if ended in ("COMPLETED", ""):
            return Standing("stopped", "its task ended without a result")
        return Standing("failed", f"Slurm ended its task: {ended}")
    if work.in_slurm and vitals.state == "missing":
        return Standing("unknown")
    return _left_behind(vitals)


def _left_behind(vitals: Vitals) -> Standing:
    if vitals.state == "failed":
        return Standing("failed", vitals.reason)
    if vitals.state == "missing":
        return Standing("missing")
    return Standing("stopped", "ended without a word")


def _slow(vitals: Vitals) -> float | None:
    progress = vitals.progress
    if progress is None or progress.age < max(_SLOW_SECONDS, _SLOW_FACTOR * progress.seconds):
        return None
    return progress.age


def cell_state(runs: list[Name]) -> Name:
    """Return the state of a cell whose runs have these states."""
    return next(name for name in CELL_ORDER if name in runs)
