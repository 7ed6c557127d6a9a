"""What is remarked on cells: missed teachers, diverged seeds, statistics, choices, assumptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmark.results.grid import (
    CellKey,
    Grid,
    GridCell,
    HyperparameterChoice,
    Mark,
    MarkKind,
    State,
    Verdict,
)
from benchmark.results.words import divergence_interval

MISSES = (Verdict.ABOVE, Verdict.BELOW, Verdict.DIVERGED, Verdict.EXPECTED_MISS)


def with_marks(grid: Grid, cells: Mapping[CellKey, GridCell]) -> dict[CellKey, GridCell]:
    """Return the cells with marks."""
    teachers = [row.name for row in grid.rows if row.kind == "teacher"]
    missed = {
        (column, metric)
        for (row, column, metric), cell in cells.items()
        if row in teachers and cell.verdict in MISSES
    }
    marked = {}
    for key, cell in cells.items():
        found = _marks(cell, grid, key[1:] in missed, key[0] in teachers)
        # Each once: a grid may be judged again.
        marked[key] = replace(cell, marks=tuple(dict.fromkeys((*cell.marks, *found))))
    return marked


def _marks(cell: GridCell, grid: Grid, teacher_missed: bool, is_teacher: bool) -> list[Mark]:
    found = []
    if cell.overrides:
        found.append(Mark(MarkKind.OVERRIDE, f"override: {', '.join(cell.overrides)}"))
    if teacher_missed and not is_teacher and cell.state is not State.REFERENCE:
        found.append(Mark(MarkKind.TEACHER, "its teacher misses its own published value"))
    if cell.diverged_seeds and cell.values:
        found.append(Mark(MarkKind.DIVERGED, _diverged(cell)))
    if cell.expected_miss is not None and cell.verdict in (Verdict.ABOVE, Verdict.BELOW):
        value = f"{cell.expected_miss.value:.{grid.decimals}f}"
        text = f"neither the published value nor the {value} that sources report instead"
        found.append(Mark(MarkKind.OTHER, text))
    if cell.selection is not None:
        found.append(Mark(MarkKind.SELECTED, _selection_words(cell.selection)))
    if cell.comparisons and cell.published and cell.published.statistic != "unstated":
        first = cell.comparisons[0]
        if first.statistic != grid.protocol:
            text = f"compared by {first.statistic.replace('_', ' ')}, as published"
            found.append(Mark(MarkKind.STATISTIC, text))
    if cell.judgement is not None and cell.judgement.fragile:
        names = ", ".join(cell.judgement.fragile)
        found.append(Mark(MarkKind.SENSITIVE, f"its verdict changes with: {names}"))
    if cell.judgement is not None and cell.judgement.fallen:
        found.append(Mark(MarkKind.OTHER, _fallen(cell.judgement.fallen)))
    if cell.comparisons and grid.max_seeds and cell.n > max(grid.max_seeds, cell.planned):
        text = "more seeds than the table's max_seeds: looks beyond are not paid for"
        found.append(Mark(MarkKind.OTHER, text))
    return found


def _fallen(seeds: Sequence[int]) -> str:
    named = ", ".join(str(seed) for seed in seeds)
    return (
        f"{'seed' if len(seeds) == 1 else 'seeds'} {named} far below the cell's others: counted"
        " here, not where the table is judged as a whole"
    )


def _diverged(cell: GridCell) -> str:
    seeds = ", ".join(str(seed) for seed in cell.diverged_seeds)
    lost = len(cell.diverged_seeds)
    low, high = divergence_interval(lost, lost + cell.n)
    return (
        f"{'seed' if lost == 1 else 'seeds'} {seeds} diverged and left no value"
        f" ({lost} of {lost + cell.n}; 95 % of the rate: {100 * low:.0f} to {100 * high:.0f} %)"
    )


def _selection_words(selection: HyperparameterChoice) -> str:
    how = (
        f"best of {selection.candidates} combinations on the test set"
        if selection.on == "test"
        else f"best of {selection.candidates} combinations on held-out training images"
    )
    chosen = f"{how}: {selection.chosen}"
    if selection.on == "test" and selection.bias is not None:
        return f"{chosen}; the choice flatters by up to {selection.bias:.2f}"
    return chosen
