"""How much is left to train and when it ends, from what was measured so far. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Left(NamedTuple):
    """What is left of one run that runs or waits.

    ``own``: seconds that it costs on its own share of a pack, ``wall``: seconds by the clock;
    None if nothing was measured yet.
    """

    own: float | None
    wall: float | None


class Forecast(NamedTuple):
    """Hours of tasks that are left, and seconds until the last of them ends.

    None if nothing was measured, or nothing runs.
    """

    hours: float | None
    seconds: float | None


def forecast(running: Sequence[Left], waiting: int, costs: Iterable[float], tasks: int) -> Forecast:
    """Estimate what is left.

    ``running``: a value for each run that runs; ``waiting``: how many wait; ``costs``: the
    seconds that whole runs cost, for those that wait; ``tasks``: how many tasks run at once,
    and will. Means are used, so the estimate is rough if runs differ much.
    """
    known = list(costs)
    typical = statistics.fmean(known) if known else None
    owns = [item.own if item.own is not None else typical for item in running]
    owns += [typical] * waiting
    measured = [own for own in owns if own is not None]
    if not owns:
        return Forecast(0.0, None)
    if len(measured) < len(owns):
        return Forecast(None, None)
    total = sum(measured)
    if not tasks:
        return Forecast(total / 3600, None)
    longest = max((item.wall for item in running if item.wall is not None), default=0.0)
    return Forecast(total / 3600, max(longest, total / tasks))
