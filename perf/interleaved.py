"""Training loops timed in turn, a few steps at a time, each in a process of its own.

All processes are alive throughout, and one of them works at any moment: whatever else the
machine does meets all of them alike, and ratios within a round can be trusted where the rates
themselves cannot.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import NamedTuple

from benchmark.train.memory import peak_memory_mb

Pause = Callable[[], bool]  # called after every step; False once the loop shall end
Loop = Callable[[Pause], None]
Clock = Callable[[], float]

WARM_UP = 2  # steps that are not counted: allocations, caches, processes of a loader


class Spell(NamedTuple):
    """What a loop did between two pauses."""

    seconds: float
    peak_mb: float  # of the process, since it started


class _Meter:
    """The loop's side: lets it run for the steps that the parent asked for."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._left = WARM_UP
        self._began = clock()

    def pause(self) -> bool:
        self._left -= 1
        if self._left > 0:
            return True
        seconds = self._clock() - self._began
        self._connection.send(Spell(seconds, peak_memory_mb()))
        self._left = self._connection.recv()
        self._began = self._clock()
        return self._left > 0


def _child(connection: Connection, loop: Loop, clock: Clock) -> None:
    loop(_Meter(connection, clock).pause)


class Contender:
    """The parent's side of one loop. ``images`` are trained in a step (of all students).

    ``clock``: time.process_time where one thread's work is to be told from what else goes on.
    """

    def __init__(
        self, loop: Loop, images: int, steps: int, clock: Clock = time.perf_counter
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_child, args=(theirs, loop, clock))
        self._process.start()
        theirs.close()
        self._images, self._steps = images, steps
        self.rates: list[float] = []
        self.peak_mb = 0.0
        self._connection.recv()  # warmed up

    def run(self) -> None:
        """Let the loop take its steps, and note images/s."""
        self.begin()
        self.end()

    def begin(self) -> None:
        """Let the loop begin its steps."""
        self._connection.send(self._steps)

    def end(self) -> None:
        """Wait until the steps are taken, and note images/s."""
        spell: Spell = self._connection.recv()
        self.rates.append(self._images * self._steps / spell.seconds)
        self.peak_mb = spell.peak_mb

    def close(self) -> None:
        """End the loop and its process."""
        self._connection.send(0)
        self._process.join()


def interleave(contenders: dict[str, Contender], rounds: int) -> None:
    """Let all take turns; every round begins with another one."""
    names = list(contenders)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            contenders[name].run()


def ratios(one: Contender, other: Contender) -> list[float]:
    """Return how many times as fast ``one`` was as ``other``, round by round."""
    return [a / b for a, b in zip(one.rates, other.rates, strict=True)]


def middle(values: list[float], digits: int = 2) -> str:
    """Return the median with the lowest and the highest value."""
    low, mid, high = (
        f"{value:,.{digits}f}" for value in (min(values), statistics.median(values), max(values))
    )
    return f"{mid} ({low} to {high})"
