"""What each row costs, as floats of their own: beside the accuracies there is no room for it."""

from __future__ import annotations

from benchmark.results.costs import row_costs
from benchmark.results.grid import Grid
from benchmark.results.render import layout
from benchmark.results.render.latex_parts import Float, label_of, row_of
from benchmark.results.render.latex_text import escape

MOST_COLUMNS = 4  # of "0.08 M, 12.7 MMAC, 1.90x", beside each other on a page


def costs(grid: Grid) -> list[Float]:
    """Return parameters, multiply-adds and training time by row and column; none if unknown."""
    known = {(c.row.name, c.column.name): layout.cost_words(c) for c in row_costs(grid)}
    columns = [c for c in grid.columns if any(name == c.name for _, name in known)]
    rows = [row.name for row in grid.rows if any(name == row.name for name, _ in known)]
    count = -(-len(columns) // MOST_COLUMNS)
    floats = []
    for number in range(count):
        part = columns[number * MOST_COLUMNS : (number + 1) * MOST_COLUMNS]
        lines = [row_of(["", *(escape(column.name) for column in part)]), r"\midrule"]
        for row in rows:
            words = (known.get((row, column.name), "-") for column in part)
            lines.append(row_of([escape(row), *("--" if w == "-" else escape(w) for w in words)]))
        several = f" ({number + 1} of {count})" if count > 1 else ""
        floats.append(
            Float(
                f"{escape(grid.title)}: what each row costs{several}.",
                f"tab:{label_of(grid.name)}-costs{f'-{number + 1}' if number else ''}",
                f"l*{{{len(part)}}}{{c}}",
                lines,
                [escape(layout.COST_NOTE)] if number + 1 == count else [],
                tabcolsep="6pt",
            )
        )
    return floats
