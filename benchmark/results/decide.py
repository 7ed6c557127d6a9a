"""How many seeds decide a claim: from gains that are seen, or that the paper prints.

A gain is taken to be what it seems. With n seeds on both sides its standard error is
``spread / sqrt(n)``, and a comparison is established with probability
``Phi(distance / error - z)``, z being what a look at n of the most seeds asks for (`looks.py`).
Comparisons are taken to be independent, which rows of one column
are not quite.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from benchmark.results.assurance import ASSURANCE
from benchmark.results.looks import repeated_level
from benchmark.results.statistics import LEVEL, MAX_SEEDS, Floats


class Bounds(NamedTuple):
    """What a claim says of a gain: that it lies between ``low`` and ``high``, points.

    ``trivial``: a gain below it is none to speak of (None: nothing is).
    """

    low: float = -np.inf
    high: float = np.inf
    trivial: float | None = None


class Contrast(NamedTuple):
    """A gain with the spread of one seed's, and the column that it counts for."""

    place: int
    gain: float
    spread: float
    bounds: Bounds


def chance_of_decision(
    contrasts: Sequence[Contrast], places: int, needed: int, most: int
) -> tuple[Floats, Floats]:
    """Return how likely a claim is decided, and holds, with 2 to MAX_SEEDS seeds a cell.

    ``most``: up to how many seeds one may look; who goes beyond has planned to.
    """
    n = np.arange(2.0, MAX_SEEDS + 1)
    agree, against, none = np.ones((3, places, len(n)))
    # If not all are asked for, and to refute, Holm's correction over all comparisons.
    many = _quantile(n, most, 1 - (1 - LEVEL) / max(len(contrasts), 1))
    strict = _quantile(n, most, LEVEL) if needed == places else many
    for one in contrasts:
        low, high, trivial = one.bounds

        def beyond(
            distance: float, z: Floats, one: Contrast = one
        ) -> Floats:  # the chance to show that a distance is above 0
            if not np.isfinite(distance):
                return np.full(len(n), float(distance > 0))
            if one.spread == 0:
                return np.full(len(n), float(distance > 0))
            return np.asarray(special.ndtr(distance * np.sqrt(n) / one.spread - z))

        above, below = beyond(one.gain - low, strict), beyond(high - one.gain, strict)
        agree[one.place] *= np.maximum(above + below - 1, 0)
        against[one.place] *= 1 - np.maximum(
            beyond(low - one.gain, many), beyond(one.gain - high, many)
        )
        if trivial is not None:
            none[one.place] *= 1 - beyond(trivial - one.gain, many)
    holds = _at_least(agree, needed)
    fails = _at_least(1 - against, places - needed + 1)
    idle = _at_least(1 - none, places - needed + 1)
    return np.maximum(np.maximum(holds, fails), idle), holds


def seeds_to_decide(
    contrasts: Sequence[Contrast], places: int, needed: int, most: int, *, holding: bool = False
) -> int | None:
    """Return the fewest seeds a cell that decide with ASSURANCE, None up to MAX_SEEDS.

    ``holding``: that show it to hold.
    """
    if not contrasts:
        return None
    decided, holds = chance_of_decision(contrasts, places, needed, most)
    enough = (holds if holding else decided) >= ASSURANCE
    return int(enough.argmax()) + 2 if enough.any() else None


def _quantile(n: Floats, most: int, level: float) -> Floats:
    """Return what a standard normal value has to exceed at a look at n seeds."""
    last = np.maximum(n, most)
    return np.asarray(special.ndtri(repeated_level(level, n / last, 1 / last)))


def _at_least(chances: Floats, needed: int) -> Floats:
    """Return the chance that ``needed`` of independent events [P, N] come true."""
    found = np.zeros((len(chances) + 1, chances.shape[1]))
    found[0] = 1.0
    for chance in chances:
        found[1:] = found[1:] * (1 - chance) + found[:-1] * chance
        found[0] *= 1 - chance
    return np.asarray(found[max(needed, 0) :].sum(axis=0))
