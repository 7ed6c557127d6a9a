"""How a run stands, in one word: the same word in every command and every file."""

from __future__ import annotations

from enum import StrEnum


class RunState(StrEnum):
    """One word for one run. The order is that in which they are shown."""

    DONE = "done"
    RUNNING = "running"
    QUEUED = "queued"
    HELD = "held"  # in a queue that does not start it
    FAILED = "failed"
    DAMAGED = "damaged"  # its directory cannot be read, or holds something else
    DIVERGED = "diverged"
    STOPPED = "stopped"  # it was started, and nobody trains it
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"  # Slurm had it, and does not answer
    MISSING = "missing"  # nothing was started


# It has a result, and nothing is left to do.
ENDED = frozenset({RunState.DONE, RunState.DIVERGED})
# A process or a queue has it.
LIVING = frozenset({RunState.RUNNING, RunState.QUEUED, RunState.HELD})
# It has no result, nobody works on it, and nobody wanted that.
ATTENTION = frozenset({RunState.FAILED, RunState.DAMAGED, RunState.STOPPED})
# A cell of several runs is in the first of these states that any of them has.
CELL_ORDER = (
    RunState.DAMAGED,
    RunState.FAILED,
    RunState.HELD,
    RunState.RUNNING,
    RunState.QUEUED,
    RunState.UNKNOWN,
    RunState.STOPPED,
    RunState.DIVERGED,
    RunState.CANCELLED,
    RunState.MISSING,
    RunState.DONE,
)
