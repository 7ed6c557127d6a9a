"""How many seeds will settle it, and how likely: from what is seen, or before anything has run.

Assurance (A. O'Hagan, J. W. Stevens and M. J. Campbell, 2005, Pharmaceutical Statistics 4, cited
from memory and from A. P. Grieve's chapter on it): the probability of a decision, averaged over
what is not known. After n seeds the mean of N seeds is predicted around the present one with
variance ``sigma**2 (1/n - 1/N)``; before any, around the published value plus its own noise.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from benchmark.results.looks import information, repeated_level
from benchmark.results.statistics import LEVEL, MAX_SEEDS, Floats

ASSURANCE = 0.8


class Open(NamedTuple):
    """Cells to be settled, [K]: the difference now, our noise and its degrees of freedom.

    ``fixed`` is the variance that more seeds of ours do not reduce; ``alpha`` what Holm's
    procedure asks of the next p-value.
    """

    delta: Floats
    n: Floats
    sigma: Floats
    df: Floats
    fixed: Floats
    most: Floats
    margin: Floats
    alpha: float


def settling(cells: Open, totals: Floats, level: float = LEVEL) -> Floats:
    """Return the probability that each cell is settled at each total of seeds, [K, N]."""
    n, many = cells.n[:, None], totals[None, :]
    ours = cells.sigma[:, None] ** 2
    fixed = cells.fixed[:, None]
    most = np.maximum(cells.most[:, None], many)
    error, quantile, time = _look(ours, fixed, many, most, level)
    df = np.maximum(cells.df[:, None] + many - n, 1)
    limit = cells.margin[:, None] - error * special.stdtrit(df, quantile)
    # The level that Holm asks for, at this look: by the ratio of normal quantiles.
    strict = special.ndtri(1 - cells.alpha / 2) / np.sqrt(time)
    beyond = error * special.stdtrit(df, np.minimum(special.ndtr(strict), 1 - 1e-15))
    spread = np.sqrt(np.maximum(ours * (1 / n - 1 / many), 1e-12))
    freedom = np.maximum(cells.df[:, None], 1)

    def below(x: Any) -> Any:
        return special.stdtr(freedom, (x - cells.delta[:, None]) / spread)

    inside = np.where(limit > 0, below(limit) - below(-limit), 0.0)
    outside = below(-np.maximum(beyond, limit)) + 1 - below(np.maximum(beyond, limit))
    return np.asarray(np.where(many > 1, inside + outside, 0.0))


def seeds_to_settle(cells: Open, asked: NDArray[np.bool_]) -> Floats:
    """Return the fewest further seeds with ASSURANCE of settling the cells that are asked for.

    nan: not within MAX_SEEDS, or not asked.
    """
    more = np.arange(1.0, MAX_SEEDS + 1)
    found = np.full(len(cells.n), np.nan)
    for i in np.flatnonzero(asked):
        one = Open._make([*(np.atleast_1d(f[i]) for f in cells[:-1]), cells.alpha])
        enough = settling(one, cells.n[i] + more)[0] >= ASSURANCE
        found[i] = more[enough.argmax()] if enough.any() else np.nan
    return found


def chance_of_match(
    sigma: ArrayLike,
    df: ArrayLike,
    n: ArrayLike,
    fixed: ArrayLike,
    most: ArrayLike,
    margin: ArrayLike,
    truth: ArrayLike = 0.0,
    level: float = LEVEL,
) -> Floats:
    """Return how likely "reproduced" is where the true difference is ``truth``, broadcast."""
    ours = np.asarray(sigma, np.float64) ** 2
    error, quantile, _ = _look(ours, np.asarray(fixed), np.asarray(n), np.asarray(most), level)
    limit = np.asarray(margin) - error * special.stdtrit(np.maximum(df, 1), quantile)
    with np.errstate(invalid="ignore", divide="ignore"):
        match = special.ndtr((limit - truth) / error) - special.ndtr((-limit - truth) / error)
    return np.asarray(np.where((limit > 0) & (np.asarray(n) > 1), match, 0.0), dtype=np.float64)


def _look(ours: Any, fixed: Any, n: Any, most: Any, level: float) -> tuple[Any, Any, Any]:
    """Return a look's standard error, the quantile of its interval, and its information time."""
    most = np.maximum(most, n)
    now, last = ours / n + fixed, ours / most + fixed
    time = information(now, last)
    step = 1 - information(ours / np.maximum(most - 1, 1) + fixed, last)
    return np.sqrt(now), repeated_level(level, time, step), time
