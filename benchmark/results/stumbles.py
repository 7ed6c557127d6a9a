"""Seeds that fell far behind the others of their cell without diverging.

Some two in a hundred runs may end points low (a bad start, a lost warm-up), and a few of them lower
the mean of a row or column as if the row were off. Where a table is judged as a whole, or asked
which epoch a source printed, they are set apart and said; a cell's own verdict counts every seed.

A seed is set apart where it lies below the median of its cell (the upper one of two) by more than
``LIMIT`` standard deviations of a seed against the median of others, and so do fewer than half of
the seeds: where half fell nobody can tell which ones did, nor with two seeds.
"""

from __future__ import annotations

import numpy as np

from benchmark.results.cells import Cells, Flags
from benchmark.results.statistics import MEDIAN_VARIANCE, Floats

LIMIT = 3.0
LEAST_SEEDS = 3
# How often a seed falls where nothing is known: two in a hundred, worth as many seeds.
EXPECTED, WORTH = 2.0, 100.0


def fallen(cells: Cells, scale: Floats) -> Flags:
    """Return which seeds fell by the cell's first reading, [..., K, N].

    ``scale`` [...]: how much noisier than its priors the table is.
    """
    values = cells.values[..., 0, :] * (1.0 if cells.upward else -1.0)
    n = np.isfinite(values).sum(axis=-1, keepdims=True)
    if values.shape[-1] < LEAST_SEEDS:
        return np.zeros(values.shape, bool)
    ordered = np.sort(values, axis=-1)  # nan last
    half = np.minimum(n // 2, values.shape[-1] - 1)
    middle = np.take_along_axis(ordered, half, axis=-1)
    sigma = (cells.sigma[:, 0] * scale[..., None])[..., None]
    with np.errstate(invalid="ignore", divide="ignore"):
        limit = LIMIT * sigma * np.sqrt(1 + MEDIAN_VARIANCE / (n - 1))
        low = (middle - values > limit) & (n >= LEAST_SEEDS) & ~cells.exact[:, None]
    few = 2 * low.sum(axis=-1, keepdims=True) < n
    return np.asarray(low & few, dtype=np.bool_)


def without(cells: Cells, fell: Flags) -> Cells:
    """Return the cells without the seeds that fell; medians stay, which hardly move by one."""
    kept = np.where(fell[..., None, :], np.nan, cells.values)
    there = np.isfinite(kept)
    count = there.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(there, kept, 0.0).sum(axis=-1) / count
        off = np.where(there, kept - means[..., None], 0.0)
        stds = np.sqrt((off**2).sum(axis=-1) / (count - 1))
    less = np.any(fell, axis=-1)[..., None] & np.isfinite(cells.means)
    return cells._replace(
        means=np.where(less & ~cells.median, means, cells.means),
        stds=np.where(less, stds, cells.stds),
        n=cells.n - fell.sum(axis=-1),
        values=kept,
    )


def falling(cells: Cells, fell: Flags) -> Floats:
    """Return how likely a further seed falls, by the table's own seeds [..., K, N]."""
    seen = np.isfinite(cells.values[..., 0, :]) & ~cells.exact[:, None]
    lost, runs = (np.asarray(f.sum(axis=(-2, -1)), np.float64) for f in (fell & seen, seen))
    return np.asarray((EXPECTED + lost) / (WORTH + runs))
