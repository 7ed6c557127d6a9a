"""Published and ours side by side in LaTeX: bands of a few pairs, stacked page by page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmark.results.grid import Comparison, Grid, GridCell, GridColumn, GridRow, Verdict
from benchmark.results.render import layout
from benchmark.results.render.latex_parts import (
    SYMBOLS,
    Float,
    label_of,
    notes_under,
    number_cell,
    row_of,
    spanned,
    superscript,
)
from benchmark.results.render.latex_text import escape
from benchmark.results.render.layout import Footnotes, fixed

# Lines of a float that fit an A4 page at this size below its caption, lines that a band of pairs
# takes beside its rows, and characters of notes that take the room of one line.
PAGE_LINES = 75
BAND_LINES = 5
NOTE_CHARACTERS = 170

_Band = list[tuple[GridColumn, str]]  # columns and metrics


def side_by_side(grid: Grid, marks: Footnotes) -> list[Float]:
    """Return published and ours for bands of a few pairs, stacked, as many floats as needed."""
    pairs = [(c, m) for c in grid.columns for m in grid.metrics]
    further = layout.readings_shown(grid)
    wide = 2 if further else 3
    bands = [pairs[i : i + wide] for i in range(0, len(pairs), wide)]
    notes = notes_under(grid, marks, "side_by_side")
    taken = sum(len(note) for note in notes) / NOTE_CHARACTERS
    chunks = _pages(bands, len(_rows(grid)) + BAND_LINES, taken)
    floats = []
    for page, chunk in enumerate(chunks):
        lines: list[str] = []
        for i, band in enumerate(chunk):
            lines += [r"\midrule[\heavyrulewidth]"] if i else []
            lines += _band(grid, band, wide, further, marks)
        part = " (continued)" if page else ""
        fields = r"@{\hspace{14pt}}ccr@{\,}l" + r"cr@{\,}l" * len(further)
        floats.append(
            Float(
                f"{escape(grid.title)}: published and ours{part}. {escape(grid.source)}.",
                "" if page else f"tab:{label_of(grid.name)}-published",
                f"l*{{{min(len(pairs), wide)}}}{{{fields}}}",
                lines,
                notes if page == len(chunks) - 1 else [],
            )
        )
    return floats


def _rows(grid: Grid) -> list[GridRow]:
    """Return the rows that can be compared; what is published only stands beside nothing."""
    return [row for row in grid.rows if row.kind != "reference"]


def _pages(bands: Sequence[_Band], height: int, notes: float) -> list[Sequence[_Band]]:
    """Return the bands by float: as many as a page holds, leaving room for notes on the last."""
    full = max(1, PAGE_LINES // height)
    last = max(1, int((PAGE_LINES - notes) // height))
    chunks, rest = [], list(bands)
    while len(rest) > last:
        take = min(full, len(rest) - 1)
        chunks.append(rest[:take])
        rest = rest[take:]
    return [*chunks, rest]


def _band(
    grid: Grid, band: _Band, wide: int, further: Sequence[str], marks: Footnotes
) -> list[str]:
    names = []
    for column, metric in band:
        name = rf"{escape(column.teacher_label)} $\to$ {escape(column.student_label)}"
        names.append(name + (f", {layout.metric_label(metric)}" if len(grid.metrics) > 1 else ""))
    width = 4 + 3 * len(further)
    # The last band may be narrower than those above it.
    blank = (min(wide, len(grid.columns) * len(grid.metrics)) - len(band)) * width
    rest = [("", blank)] if blank else []
    lines = spanned([""], [*((name, width) for name in names), *rest], rule=True)
    heads = [("publ.", 1), (layout.ours_label(grid), 1), (r"$\Delta$", 2)]
    for statistic in further:
        heads += [(escape(f"ours, {layout.statistic_label(statistic)}"), 1), (r"$\Delta$", 2)]
    lines += spanned([""], [*heads * len(band), *rest], rule=False)
    lines.append(r"\midrule")
    for i, (_, rows) in enumerate(layout.grouped(_rows(grid))):
        lines += [r"\addlinespace"] if i else []
        for row in rows:
            fields = [escape(layout.row_label(row)) + superscript(marks.row_letters(row.name))]
            for column, metric in band:
                fields += _fields(grid, row, column, metric, further, marks)
            lines.append(row_of([*fields, *[""] * blank]))
    return lines


def _fields(
    grid: Grid,
    row: GridRow,
    column: GridColumn,
    metric: str,
    further: Sequence[str],
    marks: Footnotes,
) -> Iterator[str]:
    """Yield published, ours, delta and verdict, and the latter three for further readings."""
    cell = grid.cell(row.name, column.name, metric)
    if cell is None:
        yield from ["--", "", "", ""] + ["", "", ""] * len(further)
        return
    value = cell.published_value
    yield "--" if value is None else fixed(value, grid.decimals)
    key = (row.name, column.name, metric)
    yield number_cell(layout.show_compared(grid, key, marks))
    yield from _delta(grid, cell.comparisons[0] if cell.comparisons else None)
    for name in further:
        found = _reading(cell, name)
        yield fixed(found.centre, grid.decimals) if found else ""
        yield from _delta(grid, found)


def _reading(cell: GridCell, statistic: str) -> Comparison | None:
    return next((c for c in cell.comparisons[1:] if c.statistic == statistic), None)


def _delta(grid: Grid, found: Comparison | None) -> Iterator[str]:
    """Yield the difference, and the verdict's sign with further seeds as an index."""
    if found is None:
        yield from ("", "")
        return
    yield f"${fixed(found.delta, grid.decimals, sign=True)}$"
    seeds = found.seeds_needed if found.verdict is Verdict.UNDERPOWERED else None
    yield SYMBOLS[found.verdict] + (f"$_{{+{seeds}}}$" if seeds else "")
