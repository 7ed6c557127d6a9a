"""What a training process says while it works: a live display for people, lines for logs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from benchmark.base.log import live, say, terminal
from benchmark.base.words import count
from benchmark.train.pace import EVERY_SECONDS, Pace
from benchmark.train.trainee import Trainee

_MOVES_SECONDS = 1.0


class PackReporter(Protocol):
    """Receives what happens; nothing it does can change a number."""

    def started(self, label: str, trainees: Sequence[Trainee]) -> None:
        """A pack begins or continues."""

    def step(self, trainees: Sequence[Trainee]) -> None:
        """The pack took a step, or evaluated a batch; ``trainees`` are those still in it."""

    def epoch(self, trainee: Trainee, record: dict[str, Any]) -> None:
        """A run closed an epoch."""

    def say(self, text: str) -> None:
        """Something worth a line."""

    def close(self) -> None:
        """The pack ended."""


class Lines:
    """Plain lines: how far a pack is, once a minute, and a run's epochs, once a minute at most."""

    def __init__(
        self, every: float = EVERY_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._every = every
        self._clock = clock
        self._pace = Pace(every)
        self._label = ""
        self._spoke: dict[str, float] = {}

    def started(self, label: str, trainees: Sequence[Trainee]) -> None:
        self._label = label
        self._pace.line(trainees, self._clock())  # from here on it is measured
        self.say(f"{label}: {count(len(trainees), 'run')}")

    def step(self, trainees: Sequence[Trainee]) -> None:
        line = self._pace.line(trainees, self._clock())
        if line is not None:
            self.say(f"{self._label}: {line}")

    def epoch(self, trainee: Trainee, record: dict[str, Any]) -> None:
        key, now = trainee.run.key, self._clock()
        last = record["epoch"] == trainee.recipe.epochs
        if last or now - self._spoke.get(key, -1e9) >= self._every:
            self._spoke[key] = now
            self.say(f"{key}: {describe(trainee, record)}")

    def say(self, text: str) -> None:
        say(text)

    def close(self) -> None:
        return


class Live:
    """A progress bar a run, with the time that is left."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[said]}"),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._moved = 0.0

    def started(self, label: str, trainees: Sequence[Trainee]) -> None:
        self._progress.start()
        for trainee in trainees:
            name = trainee.run.slug
            self._tasks[trainee.run.key] = self._progress.add_task(
                f"{name} seed {trainee.run.seed}",
                total=trainee.recipe.epochs,
                completed=max(0, trainee.epoch - 1),
                said="",
            )

    def step(self, trainees: Sequence[Trainee]) -> None:
        now = time.monotonic()
        if now - self._moved < _MOVES_SECONDS:
            return
        self._moved = now
        for trainee in trainees:
            part = min(1.0, trainee.step / trainee.steps_per_epoch)
            self._progress.update(
                self._tasks[trainee.run.key], completed=max(0.0, trainee.epoch - 1 + part)
            )

    def epoch(self, trainee: Trainee, record: dict[str, Any]) -> None:
        self._progress.update(
            self._tasks[trainee.run.key],
            completed=max(0, record["epoch"]),
            said=describe(trainee, record, bar=True),
        )

    def say(self, text: str) -> None:
        with live(self._progress.console):
            say(text)

    def close(self) -> None:
        self._progress.stop()


def describe(trainee: Trainee, record: dict[str, Any], bar: bool = False) -> str:
    """Return one epoch as words."""
    parts = [] if bar else [f"epoch {record['epoch']}/{trainee.recipe.epochs}"]
    if record.get("diverged"):
        parts.append("DIVERGED")
    if record.get("test_top1") is not None:
        parts.append(f"test {record['test_top1']:.2f} %")
    if record.get("train_top1") is not None:
        parts.append(f"train {record['train_top1']:.2f} %")
    if not bar and record.get("images_per_second"):
        parts.append(f"{record['images_per_second']:.0f} images/s")
    return ", ".join(parts)


def default_reporter() -> PackReporter:
    """Return the live display if a person watches, else lines."""
    console = terminal()
    return Lines() if console is None else Live(console)
