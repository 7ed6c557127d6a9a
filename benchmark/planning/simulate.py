"""How long a table takes on so many GPUs or CPU slots: list scheduling of its packs. Pure.

Packs start in their order, each as soon as its teacher's pack has ended and a slot is free, as
a queue without other users would start them. A pack longer than the time limit checkpoints and
goes back to the end of the queue; so does one that is preempted. Each start pays for imports,
data and resuming.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

# Imports, reading data and teacher, building and loading: seconds that every start pays.
START_SECONDS = 20.0


class SimulatedPack(NamedTuple):
    """One pack: ``hours`` of training, and the ids of the packs that it waits for."""

    id: str
    hours: float
    depends: tuple[str, ...] = ()


@dataclass(frozen=True)
class Machine:
    """What packs run on.

    ``slots``: packs at a time; ``limit_hours``: the time limit of one start;
    ``preemptions_per_hour``: of one running pack, at regular intervals.
    """

    slots: int
    limit_hours: float = float("inf")
    preemptions_per_hour: float = 0.0
    start_hours: float = START_SECONDS / 3600

    @property
    def longest_hours(self) -> float:
        """Training that one start gets done at most."""
        spells = [self.limit_hours]
        if self.preemptions_per_hour > 0:
            spells.append(1 / self.preemptions_per_hour)
        return min(spells) - self.start_hours


class Schedule(NamedTuple):
    """When everything has ended, the hours that slots were busy, and how often packs started."""

    makespan_hours: float
    slot_hours: float
    starts: int


def simulate(tasks: Sequence[SimulatedPack], machine: Machine) -> Schedule:
    """Schedule packs; dependencies that are not among the tasks are taken to be there.

    Raises ValueError if a start would get nothing done, and for circular dependencies.
    """
    longest = machine.longest_hours
    if longest <= 0:
        raise ValueError("the time limit or the preemptions leave no time to train")
    known = {task.id for task in tasks}
    left = {task.id: task.hours for task in tasks}
    waiting = list(tasks)
    ends: list[tuple[float, int, SimulatedPack]] = []  # of what runs now
    now = busy = 0.0
    starts = 0
    while waiting or ends:
        ready = [t for t in waiting if not any(d in known and left[d] > 0 for d in t.depends)]
        for task in ready[: machine.slots - len(ends)]:
            waiting.remove(task)
            spell = min(left[task.id], longest)
            starts += 1
            busy += spell + machine.start_hours
            heapq.heappush(ends, (now + machine.start_hours + spell, starts, task))
        if not ends:
            raise ValueError("packs wait for each other")
        now, _, task = heapq.heappop(ends)
        left[task.id] -= min(left[task.id], longest)
        if left[task.id] > 0:
            waiting.append(task)
    return Schedule(now, busy, starts)
