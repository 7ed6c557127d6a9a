"""Which rows are better over all columns: average ranks with their critical difference.

Friedman's test asks whether any row differs; Nemenyi's critical difference says by how much two
average ranks must differ (J. Demsar, 2006, Journal of Machine Learning Research 7, section
3.2.2). Ranks are of the means, so the seeds' noise enters through the columns' disagreement.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmark.results.grid import Grid, Ranking
from benchmark.results.statistics import LEVEL, Floats


def rank_rows(grid: Grid, metric: str) -> Ranking | None:
    """Return the average ranks of the rows that compete, None below two rows or two columns.

    Only a full block can be ranked: rows without a value in every column are left out, or
    columns without a value in every row, whichever keeps more cells.
    """
    rows = [row.name for row in grid.rows if row.competes]
    columns = [column.name for column in grid.columns]
    values = np.full((len(rows), len(columns)), np.nan)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            cell = grid.cell(row, column, metric)
            if cell is not None and cell.mean is not None:
                values[i, j] = cell.mean
    full_rows, full_columns = _full_block(np.isfinite(values))
    if len(full_rows) < 2 or len(full_columns) < 2:
        return None
    block = values[np.ix_(full_rows, full_columns)]
    from scipy import stats  # slow to import, and not needed while a table fills

    ranks = stats.rankdata(-block if grid.higher_is_better else block, axis=0)
    average = [(rows[i], float(r)) for i, r in zip(full_rows, ranks.mean(axis=1), strict=True)]
    k, n = block.shape
    critical = stats.studentized_range.ppf(LEVEL, k, np.inf) / 2**0.5 * (k * (k + 1) / 6 / n) ** 0.5
    return Ranking(
        metric,
        tuple(sorted(average, key=lambda item: item[1])),
        tuple(columns[j] for j in full_columns),
        float(critical),
        _friedman(block) if k > 2 else None,
        tuple(row for i, row in enumerate(rows) if i not in full_rows),
    )


def _full_block(known: NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    some_columns, some_rows = np.any(known, axis=0), np.any(known, axis=1)
    by_rows = _indices(np.all(known[:, some_columns], axis=1)), _indices(some_columns)
    by_columns = _indices(some_rows), _indices(np.all(known[some_rows], axis=0))
    return max(by_rows, by_columns, key=lambda block: len(block[0]) * len(block[1]))


def _indices(mask: ArrayLike) -> list[int]:
    return [int(i) for i in np.flatnonzero(np.asarray(mask))]


def _friedman(block: Floats) -> float:
    from scipy import stats

    if (block == block[0]).all():
        return 1.0  # every row ties in every column; the statistic is 0 / 0
    return float(stats.friedmanchisquare(*block).pvalue)
