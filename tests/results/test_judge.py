"""Verdicts over a whole table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmark.results.grid import (
    Grid,
    GridCell,
    GridColumn,
    GridRow,
    HyperparameterChoice,
    Mark,
    MarkKind,
    State,
    Verdict,
    as_shown,
)
from benchmark.results.judge import judge
from benchmark.results.render.layout import best, leaves, summary
from benchmark.table.published import ExpectedMiss, UnstatedN
from tests.results.grids import measured, published, small, wide, with_cell

CLOSE, FAR_BELOW = [70.6, 70.8, 70.7, 70.65, 70.75], [68.6, 68.8, 68.7, 68.65, 68.75]


def judged(cell: GridCell, **fields: Any) -> GridCell:
    return judge(small({"KD": cell}, **fields)).cells["KD", "pair", "top1"]


@pytest.mark.parametrize(
    ("values", "value", "verdict"),
    [
        (CLOSE, 70.7, Verdict.REPRODUCED),
        (FAR_BELOW, 70.7, Verdict.BELOW),
        (CLOSE, 68.7, Verdict.ABOVE),
        ([70.7], 70.5, Verdict.UNDERPOWERED),
        ([68.0], 70.7, Verdict.UNDERPOWERED),  # one seed decides nothing
        ([68.0, 68.1], 70.7, Verdict.BELOW),
    ],
)
def test_verdicts(values: list[float], value: float, verdict: Verdict) -> None:
    cell = judged(measured(values, published=published(value, n=5, statistic="last")))
    assert cell.verdict is verdict
    assert cell.delta == pytest.approx(np.mean(values) - value)
    assert (cell.seeds_needed is not None) == (verdict is Verdict.UNDERPOWERED)


def test_above_and_below_speak_of_the_printed_number() -> None:
    errors = [100 - v for v in FAR_BELOW]
    cell = judged(measured(errors, published=published(29.3, n=5)), show_as="error")
    assert cell.verdict is Verdict.ABOVE
    assert as_shown(68.7, "error") == pytest.approx(31.3)


@pytest.mark.parametrize(
    ("cell", "verdict"),
    [
        (measured(CLOSE), Verdict.NOT_PUBLISHED),
        (measured(CLOSE, published=published(None)), Verdict.NOT_PUBLISHED),
        (GridCell(State.MISSING, published=published(70.7)), None),
        (GridCell(State.RUNNING, published=published(70.7)), None),
        (GridCell(State.REFERENCE, published=published(70.7)), None),
        (GridCell(State.DIVERGED, published=published(70.7)), Verdict.DIVERGED),
    ],
)
def test_cells_without_anything_to_compare(cell: GridCell, verdict: Verdict | None) -> None:
    found = judged(cell)
    assert found.verdict is verdict
    assert found.delta is None
    assert found.comparisons == ()


def test_a_diverged_seed_forbids_reproduced() -> None:
    cell = measured(
        CLOSE, published=published(70.7, n=5), planned=6, diverged_seeds=(5,), state=State.PARTIAL
    )
    found = judged(cell)
    assert found.verdict is Verdict.DIVERGED
    (mark,) = (mark for mark in found.marks if mark.kind is MarkKind.DIVERGED)
    assert mark.text == ("seed 5 diverged and left no value (1 of 6; 95 % of the rate: 0 to 64 %)")
    assert judged(cell, max_divergence=0.2).verdict is Verdict.REPRODUCED
    # It does not soften a miss.
    missed = replace(cell, published=published(75.0, n=5))
    assert judged(missed).verdict is Verdict.BELOW
    # Nor is it a hit where a miss was expected.
    assert judged(replace(cell, expected_miss=known(72.0))).verdict is Verdict.DIVERGED


def known(value: float) -> ExpectedMiss:
    return ExpectedMiss(row="KD", column="pair", value=value, reason="nobody", source="a report")


@pytest.mark.parametrize(
    ("value", "instead", "verdict"),
    [
        (75.0, 70.6, Verdict.EXPECTED_MISS),  # ours is 70.7
        (75.0, 71.5, Verdict.EXPECTED_MISS),  # beyond it, but not by more than the margin
        (75.0, 72.5, Verdict.BELOW),  # far beyond it
        (75.0, 76.0, Verdict.BELOW),  # the other way
        (66.0, 70.8, Verdict.EXPECTED_MISS),
        (66.0, 68.0, Verdict.ABOVE),
        (66.0, 65.0, Verdict.ABOVE),
        (70.7, 72.0, Verdict.UNEXPECTED_HIT),
        (70.7, 70.8, Verdict.REPRODUCED),  # the two are too close for a miss
        (70.95, 72.0, Verdict.UNDERPOWERED),
    ],
)
def test_a_known_miss_is_expected_and_a_hit_is_not(
    value: float, instead: float, verdict: Verdict
) -> None:
    cell = measured(CLOSE, published=published(value, n=5), expected_miss=known(instead))
    found = judged(cell)
    assert found.verdict is verdict
    said = f"neither the published value nor the {instead:.2f} that sources report instead"
    plain = verdict in (Verdict.ABOVE, Verdict.BELOW)
    assert [mark.text for mark in found.marks] == ([said] if plain else [])


def test_an_unstated_statistic_is_read_both_ways() -> None:
    """Last is 0.45 below and best is equal: both are said, the table's protocol first."""
    best = [v + 0.45 for v in CLOSE]
    cell = judged(measured(CLOSE, best=best, published=published(71.15, n=5)))
    assert [c.statistic for c in cell.comparisons] == ["last", "best"]
    assert cell.verdict is Verdict.CONDITIONAL
    assert cell.judgement is not None
    assert cell.judgement.condition == "below if last, reproduced if best"
    assert cell.mean == pytest.approx(70.7)


def test_a_stated_statistic_is_matched_and_marked() -> None:
    best = [v + 0.45 for v in CLOSE]
    cell = judged(measured(CLOSE, best=best, published=published(71.15, n=5, statistic="best")))
    assert [c.statistic for c in cell.comparisons] == ["best"]
    assert cell.verdict is Verdict.REPRODUCED
    assert cell.mean == pytest.approx(70.7)  # the table still reports its own protocol
    assert Mark(MarkKind.STATISTIC, "compared by best, as published") in cell.marks


def test_a_median_of_finals_meets_our_median() -> None:
    values = [70.0, 70.6, 70.7]
    cell = judged(measured(values, published=published(70.6, n=5, statistic="median_of_finals")))
    (found,) = cell.comparisons
    assert found.centre == 70.6
    assert found.delta == pytest.approx(0)
    mean = judged(measured(values, published=published(70.6, n=5, statistic="last")))
    assert found.high - found.low > mean.comparisons[0].high - mean.comparisons[0].low  # type: ignore[operator]


def test_a_statistic_that_the_runs_lack_is_not_compared_by_another() -> None:
    cell = judged(measured(CLOSE, published=published(70.7, statistic="mean_of_last_5")))
    assert cell.comparisons == ()
    assert cell.verdict is None


def test_a_public_checkpoint_is_compared_without_noise() -> None:
    near = judged(measured([72.3], exact=True, published=published(72.34)))
    assert near.verdict is Verdict.REPRODUCED
    assert near.comparisons[0].noise == "one checkpoint evaluated, no seed noise"
    off = judged(measured([71.3], exact=True, published=published(72.34)))
    assert off.verdict is Verdict.BELOW


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "n unstated, taken as 1"),
        ({"n": 5}, "the same prior, n = 5"),
        ({"n": 5, "std": 0.3}, "updated by the published std 0.30, n = 5"),
        ({"std": 0.3}, "the same prior, n unstated, taken as 1"),
    ],
)
def test_the_noise_of_both_sides_is_named(fields: dict[str, Any], words: str) -> None:
    cell = judged(measured(CLOSE, published=published(70.7, **fields)))
    assert words in cell.comparisons[0].noise
    assert "prior 0.22 (CIFAR students in general) updated by 5 seeds" in cell.comparisons[0].noise


def test_what_an_unstated_number_of_runs_counts_as_is_the_tables_choice() -> None:
    cell = measured(CLOSE, published=published(70.8))
    one, five = (
        judged(cell).comparisons[0],
        judged(cell, unstated_n=UnstatedN(runs=5)).comparisons[0],
    )
    assert one.verdict is Verdict.UNDERPOWERED
    assert five.verdict is Verdict.CONDITIONAL
    found = judged(cell, unstated_n=UnstatedN(runs=5)).judgement
    assert found is not None
    assert "n >= 5" in found.condition


def test_the_margin_is_the_tables_choice() -> None:
    cell = measured(CLOSE, published=published(70.7, n=5))
    assert judged(cell, margin=0.2).verdict is Verdict.UNDERPOWERED


def test_a_marginal_miss_among_many_cells_is_no_miss() -> None:
    """A p-value of 0.02 alone is below; Holm does not take it out of 30 cells."""
    odd = measured([70.33, 70.34], published=published(71.0, n=5, statistic="last"))
    alone = judge(small({"odd": odd})).cells["odd", "pair", "top1"]
    assert alone.verdict is Verdict.BELOW
    others = {
        f"row{i}": measured([70.1, 70.0], published=published(70.0, n=5, statistic="last"))
        for i in range(29)
    }
    among = judge(small({"odd": odd, **others})).cells["odd", "pair", "top1"]
    assert among.verdict is Verdict.UNDERPOWERED
    assert among.comparisons[0].low == pytest.approx(alone.comparisons[0].low)
    # Much of a difference that only two seeds show is noise: no number of seeds is promised.
    assert among.seeds_needed is None


def test_a_students_family_sets_its_noise() -> None:
    columns = tuple(
        GridColumn(name, "vgg13", name, "VGG13", name) for name in ("resnet20", "mobilenetv2")
    )
    rows = (GridRow("Teacher", "teacher"), GridRow("KD"))
    cell = measured([70.0], published=published(70.2, n=3, statistic="last"))
    cells = {(r.name, c.name, "top1"): cell for r in rows for c in columns}
    grid = judge(Grid("t", "T", "S", ("top1",), "last", columns, rows, cells))
    width = {
        key[:2]: c.comparisons[0].high - c.comparisons[0].low  # type: ignore[operator]
        for key, c in grid.cells.items()
    }
    assert width["KD", "mobilenetv2"] == pytest.approx(width["KD", "resnet20"] * 0.37 / 0.22)
    # The teacher's row is about the teacher, in every column.
    assert width["Teacher", "mobilenetv2"] == width["Teacher", "resnet20"]
    assert [text[:4] for text in grid.noise] == ["0.22", "0.37"]


def test_a_noisy_table_is_judged_by_its_own_noise() -> None:
    """Runs on a hundred images scatter by points: the prior for CIFAR says nothing there."""
    rng = np.random.default_rng(5)
    cells = {
        f"row{i}": measured(rng.normal(90, 1.0, 3), published=published(90.0, n=3))
        for i in range(8)
    }
    grid = judge(small(cells))
    assert all(cell.verdict is Verdict.UNDERPOWERED for cell in grid.cells.values())
    assert "this table's own cells" in grid.noise[0]


def test_runs_that_override_the_recipe_do_not_unsettle_the_others() -> None:
    rng = np.random.default_rng(6)
    short = {
        f"short{i}": measured(rng.normal(50, 2.0, 3), overrides=("recipe.epochs = 1",))
        for i in range(8)
    }
    own = {"KD": measured(CLOSE, published=published(70.7, n=5))}
    grid = judge(small({**own, **short}))
    assert grid.cells["KD", "pair", "top1"].verdict is Verdict.REPRODUCED
    assert len(grid.noise) == 2


def test_students_of_a_teacher_that_misses_are_marked() -> None:
    told = Mark(MarkKind.TEACHER, "its teacher misses its own published value")
    teacher = measured([71.0], exact=True, published=published(72.34))
    student = measured(CLOSE, published=published(70.7, n=5))
    grid = judge(small({"Teacher": teacher, "KD": student}))
    assert told in grid.cells["KD", "pair", "top1"].marks
    assert told not in grid.cells["Teacher", "pair", "top1"].marks
    good = replace(teacher, published=published(71.02))
    grid = judge(small({"Teacher": good, "KD": student}))
    assert grid.cells["KD", "pair", "top1"].marks == ()


def test_overrides_are_marked() -> None:
    cell = judged(measured(CLOSE, overrides=("recipe.epochs = 3", "seed data = subset")))
    assert cell.marks == (
        Mark(MarkKind.OVERRIDE, "override: recipe.epochs = 3, seed data = subset"),
    )


def test_another_recipe_says_nothing_of_the_published_value() -> None:
    odd = measured(
        [9.5, 10.0, 10.5],
        published=published(70.7, n=5),
        overrides=("recipe.epochs = 1",),
        incomparable=True,
    )
    own = measured(CLOSE, published=published(70.7, n=5))
    grid = judge(small({"KD": own, "AT": odd}))
    cell = grid.cells["AT", "pair", "top1"]
    assert cell.verdict is Verdict.NOT_COMPARABLE
    assert cell.delta == pytest.approx(-60.7)
    assert {one.p for one in cell.comparisons} == {None}
    assert not cell.speaks
    assert [mark.kind for mark in cell.marks] == [MarkKind.OVERRIDE]
    assert summary(grid) == "1 reproduced; with overrides: 1 not comparable"
    assert grid.cells["KD", "pair", "top1"] == judge(small({"KD": own})).cells["KD", "pair", "top1"]
    own_file = replace(odd, overrides=())  # a teacher's file of one's own is no override of a table
    among = judge(small({"KD": own, "AT": own_file}))
    assert among.cells["AT", "pair", "top1"].verdict is Verdict.NOT_COMPARABLE
    assert [whole.judged for whole in among.wholes] == [1]


def test_a_choice_on_test_shows_how_much_it_may_flatter() -> None:
    chosen = HyperparameterChoice("alpha = 0.3, temperature = 5", "test", 9)
    cell = judged(measured([70.0], selection=chosen))
    assert cell.selection is not None
    assert cell.selection.bias == pytest.approx(1.485 * 0.22, abs=0.001)
    assert "flatters by up to 0.33" in cell.marks[0].text
    four = judged(measured([70.0, 70.2, 69.9, 70.1], selection=chosen))
    assert four.selection is not None
    assert four.selection.bias == pytest.approx(1.485 * 0.21 / 2, abs=0.01)
    held_out = judged(measured([70.0], selection=replace(chosen, on="split")))
    assert held_out.selection is not None
    assert held_out.selection.bias == 0
    assert "flatters" not in held_out.marks[0].text


def test_judging_is_pure_and_repeatable() -> None:
    grid = wide(2)
    before = grid.cells
    once = judge(grid)
    assert grid.cells is before
    assert all(not cell.comparisons for cell in before.values())
    assert judge(once) == once


def test_an_empty_table_is_judged_too() -> None:
    grid = judge(replace(wide(1), cells={}))
    assert grid.ranks == ()
    missing = GridCell(State.MISSING, published=published(70.0))
    key = ("KD", "resnet56-resnet20")
    assert judge(with_cell(grid, *key, missing)).cells[(*key, "top1")].verdict is None


def test_runs_with_overrides_are_a_family_of_their_own() -> None:
    """However many cells of a smoke run there are, they do not hide a miss of the table's own."""
    odd = measured([70.23, 70.24], published=published(71.0, n=5, statistic="last"))
    short = measured(
        [70.1, 70.0], published=published(70.0, n=5, statistic="last"), overrides=("epochs = 1",)
    )
    alone = judge(small({"odd": odd}))
    among = judge(small({"odd": odd, **{f"row{i}": short for i in range(29)}}))
    # The family is what is published, whatever has run and however.
    p = among.cells["odd", "pair", "top1"].comparisons[0].p
    assert p == pytest.approx(30 * (alone.cells["odd", "pair", "top1"].comparisons[0].p or 0))
    assert alone.cells["odd", "pair", "top1"].verdict is Verdict.BELOW
    among = judge(small({"odd": replace(odd, overrides=("epochs = 1",)), "row": short}))
    assert among.cells["odd", "pair", "top1"].comparisons[0].p == pytest.approx(
        2 * (alone.cells["odd", "pair", "top1"].comparisons[0].p or 0)
    )


def test_the_summary_counts_runs_with_overrides_apart() -> None:
    own = measured(CLOSE, published=published(70.7, n=5, statistic="last"))
    short = replace(own, overrides=("epochs = 1",))
    cells = {"A": own, "B": short, "C": short, "D": GridCell(State.MISSING)}
    words = summary(judge(small(cells)))
    assert words == "1 reproduced, 1 missing; with overrides: 2 reproduced"
    assert summary(judge(small({"B": short}))) == "with overrides: 1 reproduced"


def test_runs_with_overrides_are_not_the_best_beside_the_tables_own() -> None:
    high = measured([75.0], overrides=("epochs = 1",))
    grid = small({"A": measured([70.0]), "B": high, "C": measured([71.0])})
    assert best(grid, leaves(grid, ["last"])[0]) == {"C"}
    only = small({"B": high})
    assert best(only, leaves(only, ["last"])[0]) == {"B"}
