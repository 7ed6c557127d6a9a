"""What of a plan is left to train, and what is not and why. Imports no torch."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmark.planning.matrix import Plan
from benchmark.planning.packs import DEFAULT_PACK, Pack, Sizer, make_packs
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.run.reading import Reading, read
from benchmark.run.state import ENDED, RunState

_UNTOUCHED = (RunState.MISSING, RunState.STOPPED)  # it did not fail there
_NO_TEACHER = (RunState.DIVERGED, RunState.DAMAGED, RunState.CANCELLED)


class Queued(NamedTuple):
    """A run that an earlier submission has in a queue: its pack's id, its task, how it stands."""

    pack: str
    task: str
    state: str


@dataclass
class Remaining:
    """What of a plan is left to train, and what is not and why.

    ``held``: another process trains it, or will; ``waiting``: so it does with its teacher;
    ``untaught``: its teacher diverged, is damaged or was cancelled. ``readings``: how each run
    stands, by key.
    """

    runs: list[Run] = field(default_factory=list)
    done: list[Run] = field(default_factory=list)
    held: list[Run] = field(default_factory=list)
    waiting: list[Run] = field(default_factory=list)
    cancelled: list[Run] = field(default_factory=list)
    queued: list[Run] = field(default_factory=list)
    damaged: list[Run] = field(default_factory=list)
    untaught: list[Run] = field(default_factory=list)
    readings: dict[str, Reading] = field(default_factory=dict)


def remaining(
    plan: Plan,
    runs_dir: Path,
    queued: Container[str] = (),
    busy: Container[str] = (),
    ended: Mapping[str, str] | None = None,
) -> Remaining:
    """Sort a plan's runs by what is there.

    ``queued``: keys that a queue has already; ``busy``: keys that a living process means to
    train, as long as they have not failed there; ``ended``: the tasks that had runs, by key, and
    that are over, whatever sign of life they gave a moment ago.
    """
    found = Remaining()
    unfinished: set[str] = set()
    for run in plan.runs:  # teachers first
        reading = found.readings[run.key] = read(RunDir(runs_dir, run.key))
        state = reading.state
        teacher = found.readings.get(run.teacher.key) if run.teacher else None
        if state in ENDED:
            found.done.append(run)
        elif state is RunState.DAMAGED:
            found.damaged.append(run)
        elif run.key in queued:
            found.queued.append(run)
        elif state is RunState.RUNNING and _was_left(reading, (ended or {}).get(run.key)):
            found.runs.append(run)
        elif state is RunState.RUNNING or (run.key in busy and state in _UNTOUCHED):
            found.held.append(run)
            unfinished.add(run.key)
        elif state is RunState.CANCELLED:
            found.cancelled.append(run)
        elif run.teacher and run.teacher.key in unfinished:
            found.waiting.append(run)
            unfinished.add(run.key)
        elif teacher is not None and teacher.state in _NO_TEACHER:
            found.untaught.append(run)
        else:
            found.runs.append(run)
    return found


def _was_left(reading: Reading, ended: str | None) -> bool:
    """Tell whether the holder of a run is a task that Slurm has ended."""
    return ended is not None and reading.holder.startswith(f"task {ended} on ")


def plan_packs(
    plan: Plan,
    runs: list[Run],
    size: int | Sizer = DEFAULT_PACK,
    queued: Mapping[str, Queued] | None = None,
) -> list[Pack]:
    """Pack the runs of a plan that are left; they wait for teachers that are queued already."""
    teachers = [run.key for run in plan.teachers]
    elsewhere = {key: (queued or {})[key].pack for key in teachers if key in (queued or {})}
    return make_packs(plan.table.name, runs, teachers, size, elsewhere)
