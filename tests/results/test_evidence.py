"""What a table shows where it is small, odd, or leaves something open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmark.base.errors import UserError
from benchmark.results.grid import Grid, GridColumn, GridRow, Verdict
from benchmark.results.judge import judge
from benchmark.results.render import layout, markdown
from benchmark.results.teacher_noise import teacher_spread
from benchmark.results.twoway import Teachers, two_way
from benchmark.table.load import load_table
from benchmark.table.published import UnstatedN
from tests.results.conftest import TINY
from tests.results.grids import measured, published, small, wide


def table(
    rows: int,
    columns: int,
    *,
    statistic: str = "last",
    gain: float = 0.0,
    shifts: dict[int, float] | None = None,
    seeds: int = 5,
    sigma: float = 0.1,
    **stated: Any,
) -> Grid:
    """A right table of as many rows and columns; ``gain``: what is printed above our last."""
    rng = np.random.default_rng([rows, columns])
    heads = tuple(GridColumn(f"c{j}", f"t{j}", "resnet20", f"t{j}", "s") for j in range(columns))
    names = tuple(GridRow(f"r{i}") for i in range(rows))
    cells = {}
    for i, row in enumerate(names):
        for column in heads:
            last = rng.normal(70 + (shifts or {}).get(i, 0.0), sigma, seeds)
            value = round(70 + gain + float(rng.normal(0, sigma / 5**0.5)), 2)
            cells[row.name, column.name, "top1"] = measured(
                last, best=last + 0.31, published=published(value, statistic=statistic, **stated)
            )
    return Grid("t", "T", "S", ("top1",), "last", heads, names, cells)


def verdicts(grid: Grid) -> set[Verdict | None]:
    return {cell.verdict for cell in grid.cells.values()}


def test_the_table_tells_which_epoch_a_source_printed() -> None:
    grid = judge(table(2, 8, statistic="unstated", gain=0.31, n=5))
    assert verdicts(grid) == {Verdict.REPRODUCED}
    assert {cell.comparisons[0].statistic for cell in grid.cells.values()} == {"best"}
    # One column cannot tell, nor can a source of one cell.
    alone = judge(table(2, 1, statistic="unstated", gain=0.31, n=5))
    assert Verdict.REPRODUCED not in verdicts(alone)
    assert all(c.judgement and "best" in c.judgement.condition for c in alone.cells.values())


def test_a_source_that_fits_no_epoch_is_off_by_both() -> None:
    grid = judge(table(1, 8, statistic="unstated", gain=1.5, n=5))
    assert verdicts(grid) == {Verdict.BELOW}
    assert all(c.judgement and c.judgement.far for c in grid.cells.values())


def test_a_few_cells_cannot_tell_how_many_runs_a_value_is() -> None:
    grid = replace(table(1, 2), unstated_n=UnstatedN(runs=3))
    cell = judge(grid).cells["r0", "c0", "top1"]
    assert cell.verdict is Verdict.CONDITIONAL
    assert cell.judgement is not None
    assert cell.judgement.condition == "reproduced if n >= 3"
    assert dict(cell.judgement.sensitivity)["n = 3"] == "reproduced"
    assert "n = 1" in cell.judgement.fragile


def test_many_cells_tell_it() -> None:
    grid = judge(replace(table(6, 8, sigma=0.22), unstated_n=UnstatedN(runs=3)))
    counted = [c for c in grid.cells.values() if "excludes 1" in c.comparisons[0].noise]
    assert len(counted) == len(grid.cells)


def test_a_std_without_its_n_is_not_weighed() -> None:
    cell = measured([70.0, 70.1, 69.9], published=published(70.0, std=0.01, statistic="last"))
    grid = judge(small({"KD": cell}))
    (found,) = grid.cells["KD", "pair", "top1"].comparisons
    assert "the same prior, n unstated, taken as 1 (its std 0.01 is left aside" in found.noise
    text = markdown.render(grid)
    assert "1 published standard deviation cannot be judged by, since its source does not" in text


def test_a_row_that_is_off_is_named_and_a_right_table_is_not() -> None:
    off = judge(table(6, 8, shifts={2: -0.3}, n=5))
    (whole,) = off.wholes
    assert ("row", "r2") in {(s.kind, s.name) for s in whole.off}
    (line,) = layout.headline(off)
    assert "row r2 -0." in line
    assert "row r2" in markdown.render(off).split("##")[0]  # it heads the document
    (right,) = judge(table(6, 8, n=5)).wholes
    assert right.off == ()
    assert right.reproduced <= right.judged == 48
    assert right.by_chance < 0.05 * right.judged


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 2), (2, 1), (1, 6), (6, 1)])
def test_one_row_or_column_is_judged_without_parts(rows: int, columns: int) -> None:
    grid = judge(table(rows, columns, n=5))
    assert all(s.kind == "table" for whole in grid.wholes for s in whole.off)
    assert layout.headline(grid)
    assert None not in verdicts(grid)


def test_a_table_of_unknown_values_has_nothing_to_say() -> None:
    cells = {"KD": measured([70.0, 70.1]), "DKD": measured([70.0], published=published(None))}
    grid = judge(small(cells))
    assert grid.wholes == ()
    assert verdicts(grid) == {Verdict.NOT_PUBLISHED}


def test_teachers_of_ours_widen_every_interval() -> None:
    paper = table(2, 6, n=5)
    ours = replace(
        paper,
        cells={
            k: replace(c, own_teacher=True, teachers=("t",) * 5) for k, c in paper.cells.items()
        },
    )
    key = ("r0", "c0", "top1")
    width = [
        judged.cells[key].comparisons[0].high - judged.cells[key].comparisons[0].low  # type: ignore[operator]
        for judged in (judge(paper), judge(ours))
    ]
    assert width[1] > 1.5 * width[0]
    assert any("half of the seed noise" in said for said in judge(ours).noise)


def test_the_spread_of_teachers_is_told_by_rows_that_share_them() -> None:
    rng = np.random.default_rng(0)
    grid = wide(6, seeds=5)
    cells = {}
    for column in grid.columns:
        taught = rng.normal(0, 0.5, 5)
        for row in grid.rows:
            cell = measured(
                70 + taught + rng.normal(0, 0.1, 5),
                own_teacher=True,
                teachers=tuple(f"{column.name}-{i}" for i in range(5)),
            )
            cells[row.name, column.name, "top1"] = cell
    found = teacher_spread(replace(grid, cells=cells), "top1")
    assert found.tau == pytest.approx(0.5, rel=0.25)
    assert found.df == 24
    assert teacher_spread(grid, "top1").tau is None


def test_two_way_needs_three_cells_and_tells_teachers_from_columns() -> None:
    few = np.zeros(2, int)
    assert two_way(np.zeros(2), np.ones(2), few, few) is None
    row, column = np.repeat(np.arange(4), 6), np.tile(np.arange(6), 4)
    delta = np.where(column == 1, 1.0, 0.0) + np.random.default_rng(1).normal(0, 0.1, 24)
    variance = np.full(24, 0.01)
    plain = two_way(delta, variance, row, column)
    taught = two_way(delta, variance, row, column, Teachers(column, 1.0, 2.0))
    assert plain is not None
    assert taught is not None
    assert plain.p[1 + 4 + 1] < 0.01
    assert taught.p.min() > 0.05


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("max_seeds: 1", "max_seeds is 1, fewer than the 2 of `seeds`"),
        ("margin: 0", "margin"),
        ("margins: {top5: 0.3}", "top5"),
        ("max_divergence: 1.5", "max_divergence"),
    ],
)
def test_what_cannot_be_is_an_error(line: str, message: str, tmp_path: Any) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(f"{TINY}{line}\n")
    with pytest.raises(UserError, match=message.replace("`", ".")):
        load_table(str(path))
