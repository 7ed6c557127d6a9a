"""How far a pack is, how fast it goes, and how long it will still take."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.base.words import duration
from benchmark.train.trainee import Trainee

EVERY_SECONDS = 60.0


class Pace:
    """Gives a line every ``every`` seconds of ``now``, which whoever asks reads from a clock.

    It is about the run that has most left, since the others end with it or before. What it says
    of the time left is by the pace since its last line, evaluations and saving included.
    """

    def __init__(self, every: float = EVERY_SECONDS) -> None:
        self._every = every
        self._last: tuple[float, str, int] | None = None  # when, which run, steps left then

    def line(self, trainees: Sequence[Trainee], now: float) -> str | None:
        """Return a line if it is time for one, and the pack still trains."""
        if self._last is not None and now - self._last[0] < self._every:
            return None
        training = [trainee for trainee in trainees if not trainee.finished]
        if not training:
            return None
        slowest = max(training, key=steps_left)
        before = self._last
        self._last = now, slowest.run.key, steps_left(slowest)
        if before is None or before[1] != slowest.run.key:
            return None  # nothing to compare with yet
        return _line(slowest, before[2] - steps_left(slowest), now - before[0])


def _line(trainee: Trainee, taken: int, seconds: float) -> str:
    where = "first stage" if trainee.epoch < 1 else f"epoch {trainee.epoch}"
    of = "" if trainee.epoch < 1 else f"/{trainee.recipe.epochs}"
    text = f"{where}{of}, step {trainee.step}/{trainee.steps_per_epoch}"
    if taken <= 0:
        return f"{text}, no step taken in {duration(seconds)}"
    rate = taken * trainee.recipe.batch_size / seconds
    left = steps_left(trainee) * seconds / taken
    return f"{text}, {rate:,.{0 if rate >= 10 else 1}f} images/s, about {duration(left)} left"


def steps_left(trainee: Trainee) -> int:
    """Return how many steps a run has to take until its last epoch ends."""
    epochs = trainee.recipe.epochs - trainee.epoch + 1
    return max(0, epochs * trainee.steps_per_epoch - trainee.step)
