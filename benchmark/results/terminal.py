"""A filled table for a terminal: as many columns side by side as fit, the others below."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from itertools import chain

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmark.results.grid import Grid, GridCell, MarkKind, State, Verdict
from benchmark.results.render import layout
from benchmark.results.render.layout import Leaf, fixed
from benchmark.results.render.markdown import SYMBOLS

_BESIDE = (State.RUNNING, State.QUEUED, State.PARTIAL, State.FAILED)


def show(grid: Grid, statistics: Sequence[str] | None = None, width: int | None = None) -> str:
    """Return the table in lines of at most ``width`` characters (the terminal's by default).

    Each cell has ours, and below it the published value, the difference and the verdict. A
    single column that is wider than ``width`` is not wrapped.
    """
    wide = width or shutil.get_terminal_size((100, 24)).columns
    names = list(statistics or (grid.protocol,))
    leaves = layout.leaves(grid, names)
    cells = {leaf: _column(grid, leaf) for leaf in leaves}
    heads = {leaf: _head(grid, leaf, names) for leaf in leaves}
    stub = max((len(layout.row_label(row)) for row in grid.rows), default=0)
    # Every column has a border and a blank on both sides.
    sizes = [
        3
        + max(len(line) for text in chain(cells[x], [heads[x]]) for line in text.plain.split("\n"))
        for x in leaves
    ]
    console = Console(width=max(wide, stub + 4 + max(sizes, default=0)), highlight=False)
    with console.capture() as capture:
        console.print(Text(grid.title, style="bold"))
        for block in _blocks(leaves, sizes, wide - stub - 4):
            table = Table(header_style="bold")
            table.add_column("", no_wrap=True)
            for leaf in block:
                table.add_column(heads[leaf], justify="right", no_wrap=True)
            place = 0
            for _, rows in layout.grouped(grid.rows):
                for row in rows:
                    line = [cells[leaf][place] for leaf in block]
                    table.add_row(layout.row_label(row), *line, end_section=row is rows[-1])
                    place += 1
            console.print(table)
        for note in _notes(grid):
            console.print(Text(note, style="dim"))
        for sentence in layout.headline(grid):
            console.print(Text(sentence, style="bold"))
        console.print(Text(layout.summary(grid)))
        for shout in layout.shouted(grid):
            console.print(Text(shout, style="bold"))
    return capture.get()


def _blocks(leaves: Sequence[Leaf], sizes: Sequence[int], room: int) -> list[list[Leaf]]:
    """Return the columns in lines: each as many as fit, at least one."""
    blocks: list[list[Leaf]] = []
    left = 0
    for leaf, size in zip(leaves, sizes, strict=True):
        if not blocks or size > left:
            blocks.append([])
            left = room
        blocks[-1].append(leaf)
        left -= size
    return blocks


def _head(grid: Grid, leaf: Leaf, statistics: Sequence[str]) -> Text:
    parts = [leaf.column.teacher_label, leaf.column.student_label]
    parts.append(layout.leaf_label(grid, leaf, statistics))
    return Text("\n".join(part for part in parts if part))


def _column(grid: Grid, leaf: Leaf) -> list[Text]:
    best = layout.best(grid, leaf)
    return [
        _cell(grid, grid.cell(row.name, leaf.column.name, leaf.metric), leaf, row.name in best)
        for row in grid.rows
    ]


def _cell(grid: Grid, cell: GridCell | None, leaf: Leaf, best: bool) -> Text:
    if cell is None:
        return Text("-", style="dim")
    text = _ours(grid, cell, leaf, best)
    below = _published(grid, cell, leaf) if grid.has_published else Text()
    if cell.values and cell.state in _BESIDE:
        below.append(f" {cell.state}", style="dim")
    return Text("\n").join([text, below]) if grid.has_published or below else text


def _ours(grid: Grid, cell: GridCell, leaf: Leaf, best: bool) -> Text:
    sample = cell.sample(leaf.statistic)
    if sample is None or sample.mean is None:
        return Text("" if cell.state is State.REFERENCE else str(cell.state), style="dim")
    text = Text(fixed(sample.mean, grid.decimals), style="bold" if best else "")
    if sample.std is not None:
        text.append(f" ± {fixed(sample.std, grid.decimals)}", style="not bold")
    count = f"{cell.n}/{cell.planned}" if cell.n < cell.planned else str(cell.n)
    text.append(f" ({count})", style="not bold dim")
    text.append(" *" if cell.overrides else "", style="yellow")
    text.append(" \N{DAGGER}" if _is_own(cell) else "", style="yellow")
    text.append(" !" if cell.diverged_seeds else "", style="red")
    return text


def _is_own(cell: GridCell) -> bool:
    return bool(cell.values) and any(mark.kind is MarkKind.OWN for mark in cell.marks)


def _published(grid: Grid, cell: GridCell, leaf: Leaf) -> Text:
    text = Text()
    if cell.published_value is not None:
        text.append(fixed(cell.published_value, grid.decimals), style="dim")
    found = next((c for c in cell.comparisons if c.statistic == leaf.statistic), None)
    if found is None and cell.comparisons and leaf.statistic == grid.protocol:
        found = cell.comparisons[0]  # by the published statistic, which is another one
    if found is not None:
        word = cell.verdict if found is cell.comparisons[0] and cell.verdict else found.verdict
        text.append(f" {fixed(found.delta, grid.decimals, sign=True)} {SYMBOLS[word]}")
        if found.statistic != leaf.statistic and not cell.exact:
            text.append(f" by {layout.statistic_label(found.statistic)}", style="dim")
    return text


def _notes(grid: Grid) -> list[str]:
    cells = [cell for _, cell in grid.ordered]
    notes = []
    if grid.has_published:
        notes.append("below each value: the published one, ours - published, and the verdict")
    used = {c.verdict for cell in cells for c in cell.comparisons}
    used |= {cell.verdict for cell in cells if cell.comparisons and cell.verdict}
    verdicts = [f"{SYMBOLS[v]} {v}" for v in Verdict if v in used]
    if verdicts:
        notes.append("  ".join(verdicts))
    if any(cell.overrides for cell in cells):
        notes.append("* with overrides: not the table's own runs, see --explain")
    if any(_is_own(cell) for cell in cells):
        notes.append("\N{DAGGER} from a teacher's file of your own")
    if any(cell.diverged_seeds and cell.values for cell in cells):
        notes.append("! seeds diverged")
    filling = Counter(cell.state for cell in cells if cell.values and cell.state in _BESIDE)
    if filling:
        counts = ", ".join(f"{filling[s]} {s}" for s in _BESIDE if filling[s])
        notes.append(f"cells with values that are still filling: {counts}")
    return notes
