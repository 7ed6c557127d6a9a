"""What a run's evaluations said, epoch by epoch, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmark.table.recipe import Recipe
from benchmark.train.evaluate import Accuracy
from benchmark.train.optimiser import drops_after, ends_early, learning_rate

LAST = 5  # epochs at the end that are always evaluated, for the last-five protocols


class Evaluation(NamedTuple):
    """The accuracies after one epoch, in percent; validation is NaN without held-out images."""

    epoch: int
    top1: float
    top5: float
    loss: float
    val_top1: float


class Evaluated(NamedTuple):
    """One output on the test images, and on the held-out images if there are any."""

    test: Accuracy
    validation: Accuracy | None

    def at(self, epoch: int) -> Evaluation:
        """Return it as what is kept of ``epoch``."""
        value = math.nan if self.validation is None else self.validation.top1
        return Evaluation(epoch, self.test.top1, self.test.top5, self.test.loss, value)

    def to_json(self) -> dict[str, Any]:
        """Return it as it stands in an epoch's record."""
        return {
            "test_top1": self.test.top1,
            "test_top5": self.test.top5,
            "test_loss": finite(self.test.loss),
            "val_top1": None if self.validation is None else self.validation.top1,
        }


class Evaluations:
    """The evaluations of the reported output, and of the others by name."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self.reported: list[Evaluation] = []
        self.others: dict[str, list[Evaluation]] = {}

    def add(self, epoch: int, reported: Evaluated, others: Mapping[str, Evaluated]) -> None:
        """Note the evaluations after an epoch."""
        self.reported.append(reported.at(epoch))
        for name, found in others.items():
            self.others.setdefault(name, []).append(found.at(epoch))

    @property
    def accuracies(self) -> Sequence[float]:
        """What schedules look at: held-out accuracy if there is one, else the test's."""
        return [e.top1 if math.isnan(e.val_top1) else e.val_top1 for e in self.reported]

    def lr(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate of a step, counted in optimiser steps."""
        accumulate = self._recipe.accumulate
        steps = -(-steps_per_epoch // accumulate)
        done = step // accumulate
        return learning_rate(self._recipe, max(1, epoch), self.accuracies, done, steps)

    @property
    def ends_early(self) -> bool:
        """Whether the schedule ends the run here."""
        return ends_early(self._recipe, self.accuracies)

    def drops_before(self, epoch: int) -> bool:
        """Whether the rate falls by a step at the start of ``epoch``, just reached."""
        after = self.accuracies
        evaluated = bool(self.reported) and self.reported[-1].epoch == epoch - 1
        before = after[:-1] if evaluated else after
        return drops_after(self._recipe, epoch - 1, before, after)

    def evaluates(self, epoch: int) -> bool:
        """Whether an epoch is evaluated at its end."""
        if epoch < 1:
            return False
        return epoch > self._recipe.epochs - LAST or epoch % self._recipe.eval_every == 0

    def load(self, reported: Sequence[Sequence[Any]], others: Mapping[str, Any]) -> None:
        """Continue from what a checkpoint holds."""
        self.reported = [Evaluation(*item) for item in reported]
        self.others = {name: [Evaluation(*item) for item in of] for name, of in others.items()}


def finite(value: float) -> float | None:
    """JSON has no NaN; a diverged loss is recorded as null."""
    return value if math.isfinite(value) else None
