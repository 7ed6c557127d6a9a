"""Which combination of a grid is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.results.grid import State
from benchmark.results.judge import judge
from benchmark.run.directory import RunDir
from tests.results.filled import (
    GRID_COLUMN,
    cell,
    collected,
    edit,
    fill_grid,
    grid_table,
    notes,
    plan,
    write,
)


@pytest.mark.parametrize(
    ("where", "mean", "chosen"),
    [("test", 92.0, "temperature = 4"), ("split", 91.0, "temperature = 2")],
)
def test_the_best_combination_of_a_grid_is_shown(
    where: str, mean: float, chosen: str, tmp_path: Path
) -> None:
    table = grid_table(tmp_path, where)
    fill_grid(tmp_path, table, [91.0, 92.0, 90.0], [80.0, 70.0, 75.0])
    found = collected(tmp_path / "runs", table)
    there = cell(found, "KD", GRID_COLUMN)
    assert (there.mean, there.n, there.state) == (mean, 2, State.DONE)
    assert there.selection is not None
    assert (there.selection.chosen, there.selection.on) == (chosen, where)
    assert there.selection.candidates == 3
    judged = judge(found.grid).cells["KD", GRID_COLUMN, "top1"]
    assert judged.selection is not None
    assert (judged.selection.bias or 0) > 0 if where == "test" else judged.selection.bias == 0


def test_a_grid_is_done_when_all_its_combinations_are(tmp_path: Path) -> None:
    table = grid_table(tmp_path, "test")
    fill_grid(tmp_path, table, [91.0, 92.0], [80.0, 70.0])
    found = collected(tmp_path / "runs", table)
    assert cell(found, "KD", GRID_COLUMN).state is State.PARTIAL
    assert "2 of 3 combinations have results so far" in notes(found, "KD", GRID_COLUMN)


def test_a_combination_that_diverged_is_the_last_to_be_chosen(tmp_path: Path) -> None:
    table = grid_table(tmp_path, "test")
    fill_grid(tmp_path, table, [91.0, 92.0, 90.0], [80.0] * 3)
    (slot,) = plan(table, only=(), device="cpu").slots
    edit(RunDir(tmp_path / "runs", slot.variants[1].runs[0].key).result, diverged=True)
    assert cell(collected(tmp_path / "runs", table), "KD", GRID_COLUMN).mean == 91.0


def test_a_grid_selected_on_held_out_images_needs_them(tmp_path: Path) -> None:
    table = grid_table(tmp_path, "split")
    (slot,) = plan(table, only=(), device="cpu").slots
    write(tmp_path / "runs", [run for v in slot.variants for run in v.runs])
    found = collected(tmp_path / "runs", table)
    assert cell(found, "KD", GRID_COLUMN).mean is None
    assert "no run has the accuracy on held-out images" in notes(found, "KD", GRID_COLUMN)


def test_a_grid_of_overrides_is_selected_from_alike_ones(tmp_path: Path) -> None:
    table = grid_table(tmp_path, "test")
    for epochs, values in ((3, [50.0, 52.0, 51.0]), (4, [99.0])):
        sets = (f"recipe.epochs={epochs}",)
        (slot,) = plan(table, only=(), sets=sets, device="cpu").slots
        for variant, value in zip(slot.variants, values, strict=False):
            write(tmp_path / "runs", variant.runs, value)
    there = cell(collected(tmp_path / "runs", table), "KD", GRID_COLUMN)
    assert there.mean == 52.0
    assert "recipe.epochs = 3" in there.overrides
