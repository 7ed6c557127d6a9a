"""What the table itself says of a source that does not say: which epoch, and how many runs.

Best minus last is 0.31 points on CIFAR-100 and shifts every cell of a source alike, so the mean
difference of a source tells the readings apart where one cell cannot. Per source and reading:
``d`` = the mean over columns of the mean differences of its cells there, columns weighted by their
noise. Its standard error is told by the scatter of the columns around d, with that of the table's
other sources for up to POOLED_DF further degrees of freedom. A reading is excluded where ``|d|`` is
beyond the 95 % limit and above 0.15, half of best minus last. It is taken for the source's where it
alone is left and is shown to fit: ``|d|`` plus the half-width of its interval below 0.15 (two
one-sided tests of equivalence, each at 10 %). Otherwise all stay admissible: a source that fits no
reading is off, whatever it printed, and one that may fit by chance is not helped by that.

The number of runs is asked of the scatter. Around the mean of its source a published value of
one run scatters by sigma sqrt(1/n + 1), one of m runs by sigma sqrt(1/n + 1/m). Over all cells of
the table whose n is open, the sum of squares is compared with that of one run (F test at 5 %);
a source whose own scatter is too wide for m runs (0.1 %) keeps both numbers open.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from benchmark.results.cells import Cells
from benchmark.results.statistics import Floats

LIMIT = 0.95
LEAST_SHIFT = 0.15
SUPPORT = 0.9
# How many degrees of freedom the scatter of other sources may add to a source's own.
POOLED_DF = 20.0
RUNS_LEVEL = 0.05
SOURCE_LEVEL = 0.001
# How many degrees of freedom a table's own scale of noise is worth, per cell and seed.
EFFICIENCY = 0.5


class PlausibleReadings(NamedTuple):
    """``readings`` [..., K, R] that are left, ``runs`` [..., K, 2]; ``settled`` [..., K]: one
    reading is left; ``counted`` [..., K]: the number of runs is settled (or stated).

    ``shifts`` [..., S, R]: d by source and reading, ``errors`` their standard errors.
    """

    readings: NDArray[np.bool_]
    runs: NDArray[np.bool_]
    settled: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    shifts: Floats
    errors: Floats


def ask(cells: Cells, delta: Floats, variance: Floats, scale: Floats) -> PlausibleReadings:
    """Return which readings and numbers of runs are left.

    ``delta`` and its ``variance`` by the noise that is assumed are [..., K, R].
    """
    readings, shifts, errors = _readings(cells, delta, variance)
    settled = readings.sum(axis=-1) == 1
    runs, counted = _runs(cells, delta, readings, settled, scale)
    return PlausibleReadings(readings, runs, settled, counted, shifts, errors)


def _one_hot(index: NDArray[np.int_]) -> Any:
    return (index == np.arange(index.max(initial=-1) + 1)[:, None]).astype(np.float64)  # [G, K]


def _readings(
    cells: Cells, delta: Floats, variance: Floats
) -> tuple[NDArray[np.bool_], Floats, Floats]:
    there = np.isfinite(delta) & cells.admissible
    open_ = (cells.admissible.sum(axis=-1) > 1) & ~cells.exact
    sources = _one_hot(cells.source)
    pairs, place = np.unique(np.stack([cells.source, cells.column]), axis=1, return_inverse=True)
    groups = _one_hot(place.ravel())  # [P, K]
    of_source = _pairs_of(pairs[0], len(sources))  # [S, P]
    used = np.where(there & open_[:, None], 1.0, 0.0)
    counts = groups @ used
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (groups @ np.where(used > 0, delta, 0.0)) / counts  # [..., P, R]
        weight = counts**2 / (groups @ np.where(used > 0, variance, 0.0))
        seen = np.isfinite(means) & np.isfinite(weight)
        weight = np.where(seen, weight, 0.0)
        means = np.where(seen, means, 0.0)
        columns = of_source @ seen.astype(np.float64)  # [..., S, R]
        total = of_source @ weight
        shifts = (of_source @ (weight * means)) / total
        back = np.swapaxes(of_source, 0, 1)
        off = np.where(seen, means - back @ np.nan_to_num(shifts), 0.0)
        squares, df = of_source @ (weight * off**2), np.maximum(columns - 1, 0)
        their_df = df.sum(axis=-2, keepdims=True) - df
        known = np.minimum(their_df, POOLED_DF)
        theirs = known * (squares.sum(axis=-2, keepdims=True) - squares) / np.maximum(their_df, 1)
        errors = np.sqrt((squares + theirs) / (df + known) / total)
        freedom, told = np.maximum(df + known, 1), columns > 1
        limit = errors * special.stdtrit(freedom, (1 + LIMIT) / 2)
        beyond = (np.abs(shifts) > limit) & told
        near = (np.abs(shifts) + errors * special.stdtrit(freedom, SUPPORT) < LEAST_SHIFT) & told
    excluded = beyond & (np.abs(shifts) > LEAST_SHIFT)
    to_cells = np.swapaxes(sources, 0, 1)  # [K, S]
    out = (to_cells @ excluded.astype(np.float64) > 0) & open_[:, None]
    fits = (to_cells @ near.astype(np.float64) > 0) | ~open_[:, None]
    left = cells.admissible & ~out
    alone = (left & fits).sum(axis=-1, keepdims=True) == 1
    alone &= left.sum(axis=-1, keepdims=True) == 1
    return np.where(alone, left, np.broadcast_to(cells.admissible, left.shape)), shifts, errors


def _pairs_of(source: NDArray[np.int_], count: int) -> Any:
    return (source == np.arange(count)[:, None]).astype(np.float64)  # [S, P]


def _runs(
    cells: Cells,
    delta: Floats,
    readings: NDArray[np.bool_],
    settled: NDArray[np.bool_],
    scale: Floats,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    open_ = np.isnan(cells.value_n) & ~cells.exact & (cells.assumed > 1)
    both = np.stack([open_, np.ones_like(open_)], axis=-1)
    shape = (*np.broadcast_shapes(settled.shape, open_.shape), 2)
    if not np.any(open_):
        return np.broadcast_to(both, shape), np.broadcast_to(~open_, shape[:-1])
    chosen = np.take_along_axis(delta, readings.argmax(axis=-1)[..., None], axis=-1)[..., 0]
    sigma = np.take_along_axis(
        np.broadcast_to(cells.sigma, readings.shape), readings.argmax(axis=-1)[..., None], axis=-1
    )[..., 0]
    use = open_ & settled & np.isfinite(chosen) & (cells.n > 0)
    sources = _one_hot(cells.source)
    back = np.swapaxes(sources, 0, 1)
    own = (sigma * scale[..., None]) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        one = own * (1 / cells.n + 1)
        several = own * (1 / cells.n + 1 / cells.assumed)
        weight = np.where(use, 1 / several, 0.0)
        total = np.einsum("sk,...k->...s", sources, weight)
        mean = np.einsum("sk,...k->...s", sources, np.where(use, chosen * weight, 0.0)) / total
        off = np.where(use, chosen - np.einsum("ks,...s->...k", back, np.nan_to_num(mean)), 0.0)
        count = np.einsum("sk,...k->...s", sources, use.astype(np.float64))
        degrees = np.maximum(count - 1, 0).sum(axis=-1)
        squares = np.where(use, off**2 / one, 0.0).sum(axis=-1)
        known = EFFICIENCY * np.where(cells.exact, 0, np.maximum(cells.n - 1, 0)).sum(axis=-1)
        known = np.maximum(known, 1)
        excluded = (degrees > 0) & (
            special.fdtr(np.maximum(degrees, 1), known, squares / degrees) <= RUNS_LEVEL
        )
        wide = np.einsum("sk,...k->...s", sources, np.where(use, off**2 / several, 0.0))
        fits = (count < 2) | (
            special.fdtrc(np.maximum(count - 1, 1), known[..., None], wide / (count - 1))
            > SOURCE_LEVEL
        )
    fine = np.einsum("ks,...s->...k", back, fits.astype(np.float64)) > 0
    counted = ~open_ | (excluded[..., None] & fine & settled)
    return np.stack([~counted, np.ones_like(counted)], axis=-1) & np.ones(shape, bool), counted
