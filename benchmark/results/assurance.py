"""How many seeds will settle it, and how likely: from what is seen, or before anything has run.

Assurance (A. O'Hagan, J. W. Stevens and M. J. Campbell, 2005, Pharmaceutical Statistics 4, cited
from memory and from A. P. Grieve's chapter on it): the probability of a decision, averaged over
what is not known: our true spread, the true difference, whether a seed falls. Before any seed the
mean is predicted around the published value plus its own noise.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from benchmark.results.looks import information, repeated_level
from benchmark.results.statistics import LEVEL, MAX_SEEDS, Floats, joint_df

ASSURANCE = 0.8
# A true difference may be anything, or about as small as this part of the margin: what is promised
# has to hold for both, since a large difference that is seen is as a rule noise in part.
PRIOR_PART = 0.35
# Of which parts of its distribution a spread is taken: the middles of as many equal ones.
PARTS = (np.arange(7) + 0.5) / 7


class Open(NamedTuple):
    """Cells to be settled, [K]: the difference now, our noise and its degrees of freedom.

    ``fixed`` is the variance that more seeds of ours do not reduce, known with ``fixed_df``;
    ``alpha`` what Holm's procedure asks of the next p-value; ``falls``: how likely a further seed
    falls far behind.
    """

    delta: Floats
    n: Floats
    sigma: Floats
    df: Floats
    fixed: Floats
    most: Floats
    margin: Floats
    fixed_df: Floats
    alpha: float
    falls: float = 0.0


def settling(cells: Open, totals: Floats, level: float = LEVEL) -> Floats:
    """Return the probability that each cell is settled at each total of seeds, [K, N].

    Averaged over what the cell's true spread may be (a scaled inverse chi-squared distribution with
    the degrees of freedom of what is known), which later seeds show and later intervals have. A
    seed that falls far behind is taken to settle nothing.
    """
    n, many = cells.n[:, None], totals[None, :]
    more = np.maximum(many - n, 0.0)
    ours = cells.sigma[:, None] ** 2
    fixed = cells.fixed[:, None]
    most = np.maximum(cells.most[:, None], many)
    freedom = np.maximum(cells.df[:, None], 1)
    _, quantile, time = _look(ours, fixed, many, most, level)
    later_df = freedom + more
    df = joint_df((ours / many, later_df), (fixed, np.maximum(cells.fixed_df[:, None], 1)))
    within = special.stdtrit(df, quantile)[:, None]  # [K, 1, N]
    # The level that Holm asks for, at this look: by the ratio of normal quantiles.
    strict = special.ndtri(1 - cells.alpha / 2) / np.sqrt(time)
    strict = special.stdtrit(df, np.minimum(special.ndtr(strict), 1 - 1e-15))[:, None]
    loose = freedom[..., None]
    true = ours[..., None] * loose / special.chdtri(loose, PARTS[:, None])  # [K, Q, 1]
    later = (freedom[..., None] * ours[..., None] + more[:, None] * true) / later_df[:, None]
    error = np.sqrt(later / many[:, None] + fixed[..., None])
    limit = cells.margin[:, None, None] - error * within
    outer = np.maximum(error * strict, limit)
    noise, left = true / n[..., None], (1 - n / many)[:, None]
    delta = cells.delta[:, None, None]
    chances = []
    for prior in (np.inf, PRIOR_PART * cells.margin[:, None, None]):
        # What part of the difference now is our own noise, which further seeds take away.
        ours_part = noise / (prior**2 + noise + fixed[..., None])
        centre = delta * (1 - ours_part * left)
        spread = noise * (1 - ours_part) * left**2 + true * left / many[:, None]
        spread = np.sqrt(np.maximum(spread, 1e-12))

        def below(x: Any, centre: Any = centre, spread: Any = spread) -> Any:
            return special.ndtr((x - centre) / spread)

        inside = np.where(limit > 0, below(limit) - below(-limit), 0.0)
        chances.append((inside + below(-outer) + 1 - below(outer)).mean(axis=1))
    found = np.minimum(*chances) * (1 - cells.falls) ** more
    return np.asarray(np.where(many > 1, found, 0.0))


def seeds_to_settle(cells: Open, asked: NDArray[np.bool_]) -> Floats:
    """Return the fewest further seeds with ASSURANCE of settling the cells that are asked for.

    nan: not within MAX_SEEDS, or not asked.
    """
    more = np.arange(1.0, MAX_SEEDS + 1)
    found = np.full(len(cells.n), np.nan)
    for i in np.flatnonzero(asked):
        one = Open._make([*(np.atleast_1d(f[i]) for f in cells[:8]), *cells[8:]])
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
