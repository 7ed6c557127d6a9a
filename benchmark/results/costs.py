"""What each row costs: to predict by it, and to train it, in the plain student's epochs. Pure."""

from __future__ import annotations

from typing import NamedTuple

from benchmark.results.grid import CellCost, Grid, GridColumn, GridRow


class RowCost(NamedTuple):
    """A row's cost in a column; ``epochs``: of the plain student that one of its epochs takes.

    Seconds are measured, so that they compare where one kind of machine trained the column, and
    if its packs were alike; None without runs of the column's Student row.
    """

    row: GridRow
    column: GridColumn
    cost: CellCost
    epochs: float | None


def row_costs(grid: Grid) -> list[RowCost]:
    """Return what is known, by row and then column, of the first metric's runs."""
    metric = grid.metrics[0]
    plain = [row for row in grid.rows if row.kind == "student"]
    found = []
    for row in grid.rows:
        for column in grid.columns:
            cost = _cost(grid, row, column, metric)
            if cost is not None and row.kind != "teacher":
                among = (_cost(grid, base, column, metric) for base in plain)
                base = next((b.seconds for b in among if b and b.seconds), None)
                epochs = cost.seconds / base if base and cost.seconds else None
                found.append(RowCost(row, column, cost, epochs))
    return found


def _cost(grid: Grid, row: GridRow, column: GridColumn, metric: str) -> CellCost | None:
    cell = grid.cell(row.name, column.name, metric)
    return None if cell is None else cell.cost
