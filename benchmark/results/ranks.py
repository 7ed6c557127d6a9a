"""Which rows are better over all columns: average ranks with their critical difference.

Friedman's test asks whether any row differs; Nemenyi's critical difference says by how much two
average ranks must differ (J. Demsar, 2006, Journal of Machine Learning Research 7, section
3.2.2). Ranks are of the means, so the seeds' noise enters through the columns' disagreement.

The three formulas are scipy.stats' (rankdata, friedmanchisquare, studentized_range), and tested
to be equal; written on scipy.special because importing scipy.stats takes longer than all else
that collecting a table does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from benchmark.results.grid import Grid, Ranking
from benchmark.results.statistics import LEVEL, Floats


def rank_rows(grid: Grid, metric: str) -> Ranking | None:
    """Return the average ranks of the rows that compete, None below two rows or two columns.

    Only a full block can be ranked: rows without a value in every column are left out, or
    columns without a value in every row, whichever keeps more cells. Runs with overrides are
    of another table, so to speak: their cells count as missing.
    """
    rows = [row.name for row in grid.rows if row.competes]
    columns = [column.name for column in grid.columns]
    values = np.full((len(rows), len(columns)), np.nan)
    overridden = 0
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            cell = grid.cell(row, column, metric)
            if cell is not None and cell.mean is not None:
                overridden += bool(cell.overrides)
                values[i, j] = np.nan if cell.overrides else cell.mean
    full_rows, full_columns = _full_block(np.isfinite(values))
    if len(full_rows) < 2 or len(full_columns) < 2:
        return None
    block = values[np.ix_(full_rows, full_columns)]
    ranks = rank(-block if grid.higher_is_better else block)
    average = [(rows[i], float(r)) for i, r in zip(full_rows, ranks.mean(axis=1), strict=True)]
    k, n = block.shape
    return Ranking(
        metric,
        tuple(sorted(average, key=lambda item: item[1])),
        tuple(columns[j] for j in full_columns),
        nemenyi(k, n),
        friedman(ranks) if k > 2 else None,
        tuple(row for i, row in enumerate(rows) if i not in full_rows),
        overridden,
    )


def _full_block(known: NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    some_columns, some_rows = np.any(known, axis=0), np.any(known, axis=1)
    by_rows = _indices(np.all(known[:, some_columns], axis=1)), _indices(some_columns)
    by_columns = _indices(some_rows), _indices(np.all(known[some_rows], axis=0))
    return max(by_rows, by_columns, key=lambda block: len(block[0]) * len(block[1]))


def _indices(mask: ArrayLike) -> list[int]:
    return [int(i) for i in np.flatnonzero(np.asarray(mask))]


def rank(values: Floats) -> Floats:
    """Return the ranks within each column, 1 for the lowest; ties share their mean rank."""
    lower = (values[None] < values[:, None]).sum(axis=1)
    equal = (values[None] == values[:, None]).sum(axis=1)
    return np.asarray(lower + (equal + 1) / 2, dtype=np.float64)


def friedman(ranks: Floats) -> float:
    """Return the p-value of Friedman's test, corrected for ties; ranks are [rows, columns]."""
    k, n = ranks.shape
    between = ((ranks.mean(axis=1) - (k + 1) / 2) ** 2).sum() * n
    within = ((ranks - (k + 1) / 2) ** 2).sum() / (n * (k - 1))
    # Every row ties in every column: nothing differs, and the statistic is 0 / 0.
    return float(special.chdtrc(k - 1, between / within)) if within > 0 else 1.0


def nemenyi(k: int, n: int, level: float = LEVEL) -> float:
    """Return by how much the average ranks of two of k rows over n columns must differ."""
    low, high = 0.0, 20.0
    for _ in range(60):  # bisection, to the last bit
        middle = (low + high) / 2
        low, high = (middle, high) if _range_cdf(middle, k) < level else (low, middle)
    return float(low / 2**0.5 * (k * (k + 1) / (6 * n)) ** 0.5)


def _range_cdf(q: float, k: int) -> float:
    """Return the chance that the range of k standard normal values is below q."""
    x, step = np.linspace(-9, 9, 1801, retstep=True)
    density = np.exp(-(x**2) / 2) / (2 * np.pi) ** 0.5
    # The integrand and all its derivatives vanish at both ends, so the plain sum is exact.
    return float((k * density * (special.ndtr(x) - special.ndtr(x - q)) ** (k - 1)).sum() * step)
