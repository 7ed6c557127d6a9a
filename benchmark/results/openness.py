"""How likely a table will tell by itself what its sources leave open, if the paper is right.

The same questions as `asked.py` asks of runs, before there are any: is the right epoch shown to fit
and the other one excluded, by the mean shift of a source's cells; is one published run excluded, by
the scatter of all cells whose number is open?
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from benchmark.results.asked import (
    EFFICIENCY,
    LEAST_SHIFT,
    LIMIT,
    POOLED_DF,
    RUNS_LEVEL,
    SUPPORT,
)
from benchmark.results.statistics import Floats


class ForeseenCell(NamedTuple):
    """A published cell before it has runs: whose number it is, and what is known of its noise.

    ``sigma`` of one seed with ``df`` degrees of freedom; ``published``: the variance of the printed
    mean if ``runs`` are assumed that are ``silent`` of (``alone``: if they are one), ``other`` that
    of teachers; ``two``: the epoch is not stated, which moves it by ``gain``; points.
    """

    place: str
    source: tuple[str, str]
    sigma: float
    df: float
    published: float
    alone: float
    other: float
    margin: float
    two: bool
    silent: bool
    gain: float

    @property
    def fixed(self) -> float:
        """What more seeds do not reduce."""
        return self.published + self.other


def chance_of_epoch(cells: Sequence[ForeseenCell], seeds: int) -> Floats:
    """Return how likely each cell's source shows which epoch it printed, 1 if that is stated.

    A row's cells stand in as many columns.
    """
    sources = sorted({cell.source for cell in cells if cell.two})
    precision = {
        source: [1 / (c.sigma**2 / seeds + c.fixed) for c in cells if c.two and c.source == source]
        for source in sources
    }
    own = {source: len(columns) - 1 for source, columns in precision.items()}
    gains = {c.source: c.gain for c in cells if c.two}
    found = {}
    for source in sources:
        if not own[source]:
            found[source] = 0.0
            continue
        error = sum(precision[source]) ** -0.5
        df = own[source] + min(sum(own.values()) - own[source], POOLED_DF)
        fits = LEAST_SHIFT - error * special.stdtrit(df, SUPPORT)
        seen = max(LEAST_SHIFT, error * special.stdtrit(df, (1 + LIMIT) / 2))
        # The shift of the right epoch lies within, and with it the other one's beyond.
        low = max(-fits, seen - gains[source])
        found[source] = max(float(special.ndtr(fits / error) - special.ndtr(low / error)), 0.0)
    return np.array([found[cell.source] if cell.two else 1.0 for cell in cells])


def chance_of_runs(cells: Sequence[ForeseenCell], epoch: Floats, seeds: int) -> float:
    """Return how likely the scatter excludes one published run, ``epoch`` as above."""
    silent = [i for i, cell in enumerate(cells) if cell.silent]
    sources = {cells[i].source for i in silent}
    df = sum(epoch[i] for i in silent) - len(sources)
    if df < 1:
        return 0.0
    known = max(EFFICIENCY * len(cells) * (seeds - 1), 1.0)
    ratio = np.mean(
        [
            (cells[i].sigma ** 2 / seeds + cells[i].published)
            / (cells[i].sigma ** 2 / seeds + cells[i].alone)
            for i in silent
        ]
    )
    return float(special.fdtr(df, known, special.fdtri(df, known, RUNS_LEVEL) / ratio))
