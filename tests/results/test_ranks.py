"""Average ranks, their critical difference, and what is left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from benchmark.results.grid import GridCell, State
from benchmark.results.judge import judge
from benchmark.results.ranks import friedman, nemenyi, rank, rank_rows
from benchmark.results.render.layout import rank_words
from tests.results.grids import measured, small, wide, with_cell


def test_average_ranks_are_scipys() -> None:
    grid = judge(wide())
    (ranking,) = grid.ranks
    names = [row.name for row in grid.rows if row.competes]
    means = np.array([[grid.cells[r, c.name, "top1"].mean for c in grid.columns] for r in names])
    teachers = list(dict.fromkeys(c.teacher for c in grid.columns))
    means = np.stack(
        [means[:, [c.teacher == t for c in grid.columns]].mean(axis=1) for t in teachers],
        axis=1,
    )
    chi, (k, n) = stats.friedmanchisquare(*means).statistic, means.shape
    f = (n - 1) * chi / (n * (k - 1) - chi)  # Demsar 2006, section 3.2.2
    assert ranking.p == pytest.approx(stats.f.sf(f, k - 1, (k - 1) * (n - 1)))
    assert ranking.teachers == n == 6
    assert all(pair.low <= pair.gain <= pair.high for pair in ranking.pairs)
    assert all(pair.improvement_low <= pair.improvement_high for pair in ranking.pairs)
    ranks = dict(ranking.average)
    assert sum(ranks.values()) == pytest.approx(len(names) * (len(names) + 1) / 2)
    best = names[int(stats.rankdata(-means, axis=0).mean(axis=1).argmin())]
    assert ranking.average[0][0] == best
    # "DHKD + ReviewKD" does not count for best, and the teacher is not trained.
    assert set(ranks) == set(names) == {r.name for r in grid.rows} - {"Teacher", "DHKD + ReviewKD"}


@pytest.mark.parametrize("k", [2, 3, 8, 13, 40])
def test_the_formulas_are_scipys(k: int) -> None:
    rng = np.random.default_rng(k)
    block = rng.integers(0, 6, (k, 7)).astype(float)  # with ties
    assert (rank(block) == stats.rankdata(block, axis=0)).all()
    if k > 2:
        expected = stats.friedmanchisquare(*block).statistic
        assert friedman(rank(block)) == pytest.approx(expected, rel=1e-9)
    q = stats.studentized_range.ppf(0.95, k, np.inf) / 2**0.5
    assert nemenyi(k, 7) == pytest.approx(q * (k * (k + 1) / 42) ** 0.5, rel=1e-6)


@pytest.mark.parametrize(("k", "n", "expected"), [(4, 14, 1.25), (5, 30, 1.11)])
def test_critical_differences_of_published_examples(k: int, n: int, expected: float) -> None:
    """Demsar's example has 4 classifiers on 14 data sets: 1.25; q for 5 is 2.728."""
    assert nemenyi(k, n) == pytest.approx(expected, abs=0.006)


def test_ranks_leave_out_what_is_missing() -> None:
    grid = wide(3)
    gone = GridCell(State.MISSING, planned=3)
    one_cell = rank_rows(with_cell(grid, "KD", grid.columns[0].name, gone), "top1")
    assert one_cell is not None
    assert one_cell.left_out == ("KD",)
    assert len(one_cell.columns) == 3
    for row in grid.rows[1:9]:
        grid = with_cell(grid, row.name, grid.columns[0].name, gone)
    one_column = rank_rows(grid, "top1")
    assert one_column is not None
    assert one_column.left_out == ()
    assert len(one_column.columns) == 2


def test_rows_that_tie_everywhere_have_one_rank() -> None:
    grid = wide(3)
    for row in grid.rows:
        for column in grid.columns:
            grid = with_cell(grid, row.name, column.name, measured([70.0]))
    ranking = rank_rows(grid, "top1")
    assert ranking is not None
    assert {rank for _, rank in ranking.average} == {6.0}
    assert ranking.p is None  # three teachers say nothing of ranks
    assert ranking.critical_difference is None


def test_the_best_error_is_the_lowest() -> None:
    cells = {"a": measured([10.0]), "b": measured([20.0]), "c": measured([30.0])}
    grid = small(cells, show_as="error")
    columns = (grid.columns[0], replace(grid.columns[0], name="other"))
    both = {(r, c.name, "top1"): cell for r, cell in cells.items() for c in columns}
    ranking = rank_rows(replace(grid, columns=columns, cells=both), "top1")
    assert ranking is not None
    assert [row for row, _ in ranking.average] == ["a", "b", "c"]


def test_runs_with_overrides_take_no_part_in_ranks() -> None:
    grid = wide(3)
    column = grid.columns[0].name
    plain = rank_rows(grid, "top1")
    cell = measured([99.0], overrides=("epochs = 1",))
    found = rank_rows(with_cell(grid, "KD", column, cell), "top1")
    assert plain is not None
    assert found is not None
    assert plain.overridden == 0
    assert "overrides" not in rank_words(plain)
    assert (found.left_out, found.overridden) == (("KD",), 1)
    assert "Cells with overrides, which count as missing: 1." in rank_words(found)
