"""Which rows are better over all columns: ranks, and gains with their intervals.

Columns that share a teacher are not independent, so that they count once, by their mean: ranks
are of teachers' means. Friedman's test by Iman and Davenport's F asks whether any row differs, and
Nemenyi's critical difference by how much two average ranks must (J. Demsar, 2006, Journal of
Machine Learning Research 7, section 3.2.2); both are silent below five teachers, where they
cannot say anything. The best row stands against each other one by the mean gain and the
probability that a run of it is the better one, with intervals from a bootstrap over seeds that is
stratified over teachers: every teacher keeps its columns, and in each the seeds are drawn anew
(after R. Agarwal et al., 2021, NeurIPS 34). Its draws are fixed, so that output is.

The formulas are scipy.stats' (rankdata, friedmanchisquare, studentized_range), and tested to be
equal; written on scipy.special because importing scipy.stats takes longer than all else that
collecting a table does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from benchmark.results.found import Pairwise
from benchmark.results.grid import Grid, GridCell, Ranking
from benchmark.results.statistics import LEVEL, Floats

LEAST_TEACHERS = 5
DRAWS = 500
ENDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


def rank_rows(grid: Grid, metric: str) -> Ranking | None:
    """Return the average ranks of the rows that compete, None below two rows or two columns.

    Only a full block can be ranked: rows without a value in every column are left out, or
    columns without a value in every row, whichever keeps more cells. Runs with overrides are
    of another table, so to speak: their cells count as missing. Diverged seeds count at chance.
    """
    rows = [row.name for row in grid.rows if row.competes]
    columns = [column.name for column in grid.columns]
    values: list[list[Floats]] = [[np.empty(0)] * len(columns) for _ in rows]
    overridden = 0
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            cell = grid.cell(row, column, metric)
            if cell is not None:
                overridden += bool(cell.overrides and cell.values)
                values[i][j] = _outcomes(cell, grid.at_chance(metric))
    means = np.array([[v.mean() if v.size else np.nan for v in row] for row in values])
    means = means.reshape(len(rows), len(columns))
    full_rows, full_columns = _full_block(np.isfinite(means))
    if len(full_rows) < 2 or len(full_columns) < 2:
        return None
    teachers = [grid.columns[j].teacher for j in full_columns]
    names = list(dict.fromkeys(teachers))
    share = np.array([[t == name for t in teachers] for name in names], float)
    share /= share.sum(axis=1, keepdims=True)  # [teachers, columns]
    block = means[np.ix_(full_rows, full_columns)] @ share.T
    ranks = rank(-block if grid.higher_is_better else block)
    average = [(rows[i], float(r)) for i, r in zip(full_rows, ranks.mean(axis=1), strict=True)]
    k, n = block.shape
    enough = n >= LEAST_TEACHERS
    ordered = tuple(sorted(average, key=lambda item: item[1]))
    kept = {rows[i]: [values[i][j] for j in full_columns] for i in full_rows}
    return Ranking(
        metric,
        ordered,
        tuple(columns[j] for j in full_columns),
        nemenyi(k, n) if enough else None,
        iman_davenport(ranks) if enough and k > 2 else None,
        tuple(row for i, row in enumerate(rows) if i not in full_rows),
        overridden,
        n,
        _pairs(kept, [name for name, _ in ordered], share, higher=grid.higher_is_better),
    )


def _outcomes(cell: GridCell, chance: float) -> Floats:
    if cell.overrides or not (cell.values or cell.diverged_seeds):
        return np.empty(0)
    return np.array([*cell.values, *[chance] * len(cell.diverged_seeds)], dtype=np.float64)


def _pairs(
    values: dict[str, list[Floats]], order: list[str], share: Floats, *, higher: bool
) -> tuple[Pairwise, ...]:
    """Return the best row against each other one; nothing if a cell has one seed alone."""
    if any(cell.size < 2 for cells in values.values() for cell in cells):
        return ()
    rng = np.random.default_rng(0)
    weight = share.mean(axis=0)  # a teacher counts once, whatever its columns
    sign = 1.0 if higher else -1.0
    drawn = {name: [_draws(cell, rng) for cell in values[name]] for name in order}
    best = order[0]
    found = []
    for other in order[1:]:
        gain, better = np.zeros(DRAWS + 1), np.zeros(DRAWS + 1)
        for w, one, two in zip(weight, drawn[best], drawn[other], strict=True):
            gain += w * sign * (one.mean(axis=1) - two.mean(axis=1))
            apart = sign * (one[:, :, None] - two[:, None, :])
            better += w * ((apart > 0).mean(axis=(1, 2)) + (apart == 0).mean(axis=(1, 2)) / 2)
        low, high = np.quantile(gain[1:], ENDS)
        worst, most = np.quantile(better[1:], ENDS)
        found.append(
            Pairwise(
                row=best,
                other=other,
                gain=float(gain[0]),
                low=float(low),
                high=float(high),
                improvement=float(better[0]),
                improvement_low=float(worst),
                improvement_high=float(most),
            )
        )
    return tuple(found)


def _draws(cell: Floats, rng: np.random.Generator) -> Floats:
    """Return the values themselves, then DRAWS draws of as many with replacement."""
    again = cell[rng.integers(0, cell.size, (DRAWS, cell.size))]
    return np.vstack([cell[None], again])


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
    """Return Friedman's chi-squared, corrected for ties; ranks are [rows, blocks]."""
    k, n = ranks.shape
    between = ((ranks.mean(axis=1) - (k + 1) / 2) ** 2).sum() * n
    within = ((ranks - (k + 1) / 2) ** 2).sum() / (n * (k - 1))
    # Every row ties in every block: nothing differs, and the statistic is 0 / 0.
    return float(between / within) if within > 0 else 0.0


def iman_davenport(ranks: Floats) -> float:
    """Return the p-value of Friedman's test by Iman and Davenport's F."""
    k, n = ranks.shape
    statistic = friedman(ranks)
    left = n * (k - 1) - statistic
    if left <= 1e-12:
        return 0.0  # the rows have one order everywhere
    return float(special.fdtrc(k - 1, (k - 1) * (n - 1), (n - 1) * statistic / left))


def nemenyi(k: int, n: int, level: float = LEVEL) -> float:
    """Return by how much the average ranks of two of k rows over n blocks must differ."""
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
