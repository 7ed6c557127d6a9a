"""Seeds that fell far behind their cell's others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmark.results.grid import Grid, MarkKind
from benchmark.results.judge import judge
from benchmark.results.render import layout
from tests.results.grids import measured, published, wide, with_cell

FALLEN = [70.1, 69.9, 70.0, 66.0, 70.2]
PLACE = ("KD", "resnet56-resnet20", "top1")


def with_fall(values: list[float], **fields: object) -> Grid:
    cell = measured(values, published=published(70.0, n=5, statistic="last"))
    return judge(with_cell(wide(6, seeds=5, **fields), *PLACE[:2], cell))


def test_a_seed_that_fell_is_named_and_counts_in_its_cell() -> None:
    grid = with_fall(FALLEN)
    cell = grid.cells[PLACE]
    assert cell.mean is not None
    assert np.isclose(cell.mean, np.mean(FALLEN))
    assert cell.judgement is not None
    assert cell.judgement.fallen == (3,)
    (mark,) = (m for m in cell.marks if m.kind is MarkKind.OTHER)
    assert mark.text.startswith("seed 3 far below the cell's others: counted here")
    assert cell.seeds_needed is None  # nothing is promised of a cell that stumbles
    assert "1 seed far below the others of a cell not in the shifts" in layout.headline(grid)[0]


def test_it_does_not_move_the_table() -> None:
    calm = [70.1, 69.9, 70.0, 70.05, 70.2]
    fell, plain = (with_fall(values).wholes[0].mean for values in (FALLEN, calm))
    assert fell is not None
    assert plain is not None
    assert abs(fell.shift - plain.shift) < 0.005


def test_neither_of_two_seeds_nor_a_high_one_has_fallen() -> None:
    for values in ([70.0, 66.0], [70.0, 70.1, 74.0], [70.0, 69.6, 70.3], [66.0, 66.1, 70.0, 70.0]):
        found = with_fall(values).cells[PLACE].judgement
        assert found is not None
        assert found.fallen == ()


def test_in_a_table_of_errors_a_fall_is_a_higher_number() -> None:
    errors = with_fall([100 - v for v in FALLEN], show_as="error").cells[PLACE].judgement
    assert errors is not None
    assert errors.fallen == (3,)
    accuracies = with_fall([100 - v for v in FALLEN]).cells[PLACE].judgement
    assert accuracies is not None
    assert accuracies.fallen == ()


def test_several_falls_are_told_from_the_calm_half() -> None:
    grid = with_fall([70.1, 66.0, 70.0, 66.5, 70.2])
    judged = grid.cells[PLACE].judgement
    assert judged is not None
    assert judged.fallen == (1, 3)
    assert judge(replace(grid, max_seeds=5)).wholes[0].fallen == 2
