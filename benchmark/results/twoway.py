"""A table of differences as a whole: is it off, or one of its rows, or one of its columns?

A shift of 0.3 points hides in every single cell and shows in the mean of a row, a column or the
table. The differences are fitted by ``shift + row + column`` (effects sum to zero), each cell
weighted by what is known of its noise, so that a cell with a stumbling seed hardly counts; the
residuals tell the scale of the noise, so that nothing has to be assumed of it beyond the weights.
Parts are tested by t, with Holm's correction over all of them. If columns have teachers of
their own, the teachers' spread is added to columns and table, not to rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from benchmark.results.statistics import LEVEL, Floats, holm

# From so many degrees of freedom on the residuals alone tell the noise.
ENOUGH_DF = 10


class Parts(NamedTuple):
    """The parts of a table: itself, then its rows, then its columns; [..., 1 + R + C].

    Rows and columns are named by their numbers in ``rows`` and ``columns``; a table of one column
    (row), or whose rows and columns cannot be told apart, has none.
    """

    rows: NDArray[np.int_]
    columns: NDArray[np.int_]
    shift: Floats
    low: Floats
    high: Floats
    p: Floats


class Teachers(NamedTuple):
    """Teachers that are not the paper's: which each cell has [K], the variance that a teacher
    adds, and how well it is known."""

    which: NDArray[np.int_]
    variance: float
    df: float


def two_way(
    delta: Floats,
    variance: Floats,
    row: NDArray[np.int_],
    column: NDArray[np.int_],
    teachers: Teachers | None = None,
    level: float = LEVEL,
) -> Parts | None:
    """Return the shifts of a table's parts; None below three cells.

    ``delta`` and ``variance`` are [..., K]; the variance is a cell's own, without teachers.
    """
    if len(row) < 3:
        return None
    design, told, rows, columns = parts_of(row, column)
    weight = 1 / np.broadcast_to(variance, delta.shape)
    covariance = np.linalg.inv((design.T * weight[..., None, :]) @ design)
    beta = (covariance @ ((weight * delta) @ design)[..., None])[..., 0]
    residual = delta - beta @ design.T
    df = len(row) - design.shape[1]
    scale = (residual**2 * weight).sum(axis=-1) / max(df, 1)
    if df < ENOUGH_DF:
        scale = np.maximum((ENOUGH_DF + df * scale) / (ENOUGH_DF + df), 1.0)
        df = df + ENOUGH_DF
    shift = beta @ told.T
    own = ((told @ covariance) * told).sum(axis=-1) * scale[..., None]
    extra, known = _teachers(teachers, len(rows), columns, column)
    error = np.sqrt(own + extra)
    freedom = (own + extra) ** 2 / (own**2 / df + extra**2 / known)
    half = error * special.stdtrit(freedom, (1 + level) / 2)
    p = holm(2 * special.stdtr(freedom, -np.abs(shift) / error))
    return Parts(rows, columns, shift, shift - half, shift + half, p)


def parts_of(row: NDArray[np.int_], column: NDArray[np.int_]) -> tuple[Floats, Floats, Any, Any]:
    """Return the design [K, P], its parts by parameters [1 + R + C, P], rows and columns."""
    rows, at_row = np.unique(row, return_inverse=True)
    columns, at_column = np.unique(column, return_inverse=True)
    one = np.ones((len(row), 1))
    if len(rows) > 1 and len(columns) > 1:
        # The last effect is minus the sum of the others.
        of_rows, of_columns = (
            np.vstack([np.eye(n - 1), -np.ones((1, n - 1))]) for n in (len(rows), len(columns))
        )
        design = np.hstack([one, of_rows[at_row], of_columns[at_column]])
        if np.linalg.matrix_rank(design) == design.shape[1] < len(row):
            told = np.zeros((1 + len(rows) + len(columns), design.shape[1]))
            told[0, 0] = 1
            told[1 : 1 + len(rows), 1 : len(rows)] = of_rows
            told[1 + len(rows) :, len(rows) :] = of_columns
            return design, told, rows, columns
    return one, np.ones((1, 1)), rows[:0], columns[:0]


def _teachers(
    teachers: Teachers | None, rows: int, columns: NDArray[np.int_], column: NDArray[np.int_]
) -> tuple[Floats, float]:
    """Return the variance that teachers add to each part, and its degrees of freedom."""
    extra = np.zeros(1 + rows + len(columns))
    if teachers is None or not teachers.variance:
        return extra, 1.0
    _, first = np.unique(column, return_index=True)
    _, shared = np.unique(teachers.which[first], return_counts=True)
    part = shared / shared.sum()
    extra[0] = teachers.variance * float((part**2).sum())
    extra[1 + rows :] = teachers.variance * (1 - 1 / len(first))
    return extra, max(teachers.df, 1.0)
