"""GitHub Markdown from a Grid."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmark.results.costs import row_costs
from benchmark.results.grid import (
    CellKey,
    Comparison,
    Grid,
    GridCell,
    GridColumn,
    GridRow,
    State,
    Verdict,
)
from benchmark.results.render import layout
from benchmark.results.render.layout import Footnotes, Form, Shown, fixed

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
DELTA = "\N{GREEK CAPITAL LETTER DELTA}"
SYMBOLS = {
    Verdict.REPRODUCED: "\N{CHECK MARK}",
    Verdict.ABOVE: "\N{BLACK UP-POINTING TRIANGLE}",
    Verdict.BELOW: "\N{BLACK DOWN-POINTING TRIANGLE}",
    Verdict.CONDITIONAL: "~",
    Verdict.UNDERPOWERED: "?",
    Verdict.DIVERGED: "\N{BALLOT X}",
    Verdict.NOT_COMPARABLE: "\N{NOT EQUAL TO}",
    Verdict.EXPECTED_MISS: "\N{BLACK DOWN-POINTING SMALL TRIANGLE}",
    Verdict.UNEXPECTED_HIT: "\N{DOUBLE EXCLAMATION MARK}",
}

# What can begin markup, HTML, a link, an emoji or math becomes an entity, which never does. An
# underscore between letters or digits is plain text in GitHub Markdown (wrn_40_2).
MARKUP = re.compile(
    r"(?<![^\W_])_|_(?![^\W_])|[\\`*\[\]<>#|~$&@]|:(?=//|[\w+-]+:)|^[-+=]|^\d+(?=[.)])|www",
    re.IGNORECASE,
)
SPACES = re.compile(r"\s+")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class _Table(NamedTuple):
    header: Sequence[str]
    left: int  # so many columns are text, the others numbers
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        rule = ["---"] * self.left + [":---:"] * (len(self.header) - self.left)
        return "\n".join(f"| {' | '.join(line)} |" for line in [self.header, rule, *self.rows])


def escape(text: str) -> str:
    """Return text that GitHub shows as it stands, on one line: no markup, HTML, links or math."""
    flat = CONTROL.sub("\N{REPLACEMENT CHARACTER}", SPACES.sub(" ", text).strip())
    return MARKUP.sub(lambda m: "".join(f"&#{ord(c)};" for c in m.group()), flat)


def render(
    grid: Grid,
    forms: Sequence[Form] = ("paper", "side_by_side"),
    statistics: Sequence[str] | None = None,
) -> str:
    """Return the whole document: the table in the asked forms, ranks, claims and notes.

    ``statistics`` sets several side by side in the paper's layout; the protocol's alone
    otherwise. Nothing is set side by side if no value was ever published.
    """
    marks = layout.footnotes(grid)
    parts = [f"# {escape(grid.title)}", escape(f"Table {grid.name}. {grid.source}")]
    parts += [f"**{escape(line)}.**" for line in layout.headline(grid)]
    parts.append(f"{escape(layout.summary(grid))}.")
    parts += [f"**{escape(line)}.**" for line in layout.shouted(grid)]
    for form in forms:
        if form == "paper":
            parts += ["## In the paper's layout, our numbers"]
            parts.append(str(_paper(grid, marks, statistics or (grid.protocol,))))
        elif grid.has_published:
            parts += ["## Published and ours", *_side_by_side(grid, marks)]
    parts += _ranks(grid) + _claims(grid) + _costs(grid)
    parts += [
        "## Notes",
        _notes(grid, marks, "side_by_side" if "side_by_side" in forms else "paper"),
    ]
    return "\n\n".join(parts) + "\n"


def _paper(grid: Grid, marks: Footnotes, statistics: Sequence[str]) -> _Table:
    leaves = layout.leaves(grid, statistics)
    stubs = layout.stubs(grid)
    header = [escape(stub) or "Teacher<br>Student" for stub in stubs]
    for leaf in leaves:
        names = [leaf.column.teacher_label, leaf.column.student_label]
        names.append(layout.leaf_label(grid, leaf, statistics))
        header.append("<br>".join(escape(name) for name in names if name))
    best = {leaf: layout.best(grid, leaf) for leaf in leaves}
    rows = []
    for row, line in _stubbed(grid, marks):
        for leaf in leaves:
            key = (row.name, leaf.column.name, leaf.metric)
            shown = layout.show(grid, key, leaf.statistic, marks, is_best=row.name in best[leaf])
            line.append(_cell(shown))
        rows.append(line)
    return _Table(header, len(stubs), rows)


def _side_by_side(grid: Grid, marks: Footnotes) -> list[str]:
    """Return a heading and a table for each column and metric."""
    parts = []
    for column in grid.columns:
        for metric in grid.metrics:
            if not any((row.name, column.name, metric) in grid.cells for row in grid.rows):
                continue
            title = f"{column.teacher_label} \N{RIGHTWARDS ARROW} {column.student_label}"
            if len(grid.metrics) > 1:
                title += f", {layout.metric_label(metric)}"
            parts += [f"### {escape(title)}", str(_pair(grid, column, metric, marks))]
    return parts


def _pair(grid: Grid, column: GridColumn, metric: str, marks: Footnotes) -> _Table:
    stubs = [stub or "method" for stub in layout.stubs(grid)]
    further = layout.readings_shown(grid)
    header = [
        *map(escape, stubs),
        "published",
        layout.ours_label(grid),
        DELTA,
        f"95 % of {DELTA}",
        "verdict",
    ]
    header += [f"ours, {layout.statistic_label(statistic)}" for statistic in further]
    rows = []
    for row, first in _stubbed(grid, marks):
        cell = grid.cell(row.name, column.name, metric)
        if cell is not None and row.kind != "reference":
            key = (row.name, column.name, metric)
            rows.append(
                [
                    *first,
                    *_compared(
                        grid,
                        key,
                        cell,
                        layout.show_compared(grid, key, marks),
                    ),
                    *(_reading(grid, cell, statistic) for statistic in further),
                ]
            )
    return _Table(header, len(stubs), rows)


def _compared(grid: Grid, key: CellKey, cell: GridCell, shown: Shown) -> list[str]:
    published = _published(grid, cell)
    if cell.state is State.REFERENCE:
        return [published, "", "", "", ""]
    if not cell.comparisons:
        return [published, _cell(shown), "", "", escape(layout.cell_words(grid, key))]
    found = cell.comparisons[0]
    interval = "no noise" if cell.exact else ""
    if not cell.exact and found.low is not None and found.high is not None:
        low, high = (fixed(x, grid.decimals, sign=True) for x in (found.low, found.high))
        interval = f"{low} to {high}"
    delta = fixed(found.delta, grid.decimals, sign=True)
    return [published, _cell(shown), delta, interval, _cell_verdict(grid, key)]


def _published(grid: Grid, cell: GridCell) -> str:
    if cell.published is None:
        return "-"
    if cell.published.value is None:
        return "unknown"
    value = fixed(cell.published.value, grid.decimals)
    if cell.published.std is not None:
        value += f" {PLUS_MINUS} {fixed(cell.published.std, grid.decimals)}"
    return f"{value} ({cell.published.n})" if cell.published.n else value


def _reading(grid: Grid, cell: GridCell, statistic: str) -> str:
    for found in cell.comparisons[1:]:
        if found.statistic == statistic:
            centre = fixed(found.centre, grid.decimals)
            delta = fixed(found.delta, grid.decimals, sign=True)
            return f"{centre} ({delta}), {_verdict(found)}"
    return ""


def _verdict(found: Comparison) -> str:
    words = layout.verdict_words(found)
    return f"{SYMBOLS[found.verdict]} {words}"


def _cell_verdict(grid: Grid, key: CellKey) -> str:
    verdict, words = grid.cells[key].verdict, escape(layout.cell_words(grid, key))
    assert verdict is not None
    if verdict is Verdict.UNEXPECTED_HIT:
        return f"**{SYMBOLS[verdict]} {words.upper()}**"
    return f"{SYMBOLS[verdict]} {words}"


def _cell(shown: Shown) -> str:
    if not shown.mean:
        return "-" if shown.word == "-" else f"_{shown.word}_{_superscript(shown.letters)}"
    if shown.reference:
        return f"_{shown.mean}_"
    number = f"**{shown.mean}**" if shown.best else shown.mean
    if shown.std:
        number += f" {PLUS_MINUS} {shown.std}"
    tail = f", _{shown.word}_" if shown.word else ""
    return f"{number} ({shown.seeds}{tail}){_superscript(shown.letters)}"


def _superscript(letters: str) -> str:
    return f"<sup>{letters}</sup>" if letters else ""


def _stubbed(grid: Grid, marks: Footnotes) -> Iterator[tuple[GridRow, list[str]]]:
    """Yield each row with its text columns, its footnotes at its name."""
    for _, rows in layout.grouped(grid.rows):
        for i, row in enumerate(rows):
            texts = [escape(text) for text in layout.stub_fields(grid, row, first=i == 0)]
            texts[layout.stubs(grid).index("")] += _superscript(marks.row_letters(row.name))
            yield row, texts


def _ranks(grid: Grid) -> list[str]:
    parts = []
    for ranking in grid.ranks:
        table = _Table(
            ["method", "average rank"],
            1,
            [[escape(row), f"{rank:.2f}"] for row, rank in ranking.average],
        )
        parts += [f"## Average rank, {layout.metric_label(ranking.metric)}", str(table)]
        parts.append(escape(layout.rank_words(ranking)))
        pairs = [[escape(x) for x in layout.pair_words(pair)] for pair in ranking.pairs]
        header = ["best against", "mean gain, 95 %", "probability of improvement, 95 %"]
        parts += [str(_Table(header, 1, pairs))] if pairs else []
    return parts


def _claims(grid: Grid) -> list[str]:
    if not grid.claim_results:
        return []
    rows = [
        [escape(r.claim.text), f"**{r.verdict}**", escape(r.detail), escape(r.claim.source)]
        for r in grid.claim_results
    ]
    return ["## Claims", str(_Table(["claim", "verdict", "why", "source"], 4, rows))]


def _costs(grid: Grid) -> list[str]:
    """Return what each row costs, a column of the table beside the other."""
    known = {(c.row.name, c.column.name): layout.cost_words(c) for c in row_costs(grid)}
    if not known:
        return []
    header = ["method", *(escape(column.name) for column in grid.columns)]
    rows = [
        [escape(row.name), *(known.get((row.name, c.name), "-") for c in grid.columns)]
        for row in grid.rows
        if any(name == row.name for name, _ in known)
    ]
    return ["## Cost", str(_Table(header, 1, rows)), escape(layout.COST_NOTE)]


def _notes(grid: Grid, marks: Footnotes, form: Form) -> str:
    lines = [f"- {escape(line)}." for line in layout.notes(grid, marks, form)]
    if form == "side_by_side":
        lines += [f"- {SYMBOLS[v]} {v}: {escape(text)}." for v, text in layout.legend(grid)]
    lines += [f"- <sup>{letter}</sup> {escape(text)}." for letter, text in layout.lettered(marks)]
    return "\n".join(lines)
