"""What every rendering of a Grid shares: which columns, which words, which footnotes.

Everything here is plain text; the renderers escape and set it. The order of all output follows
the grid, so the same grid always gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Literal, NamedTuple

from benchmark.base.words import count
from benchmark.results.grid import (
    CellKey,
    Grid,
    GridCell,
    GridColumn,
    GridRow,
    Mark,
    MarkKind,
    State,
    Verdict,
)
from benchmark.results.render.numbers import fixed as fixed
from benchmark.results.render.numbers import metric_label as metric_label
from benchmark.results.render.numbers import statistic_label as statistic_label
from benchmark.results.render.numbers import tidy as tidy
from benchmark.results.render.sentences import COST_NOTE as COST_NOTE
from benchmark.results.render.sentences import cell_words as cell_words
from benchmark.results.render.sentences import cost_words as cost_words
from benchmark.results.render.sentences import headline as headline
from benchmark.results.render.sentences import legend as legend
from benchmark.results.render.sentences import pair_words as pair_words
from benchmark.results.render.sentences import rank_words as rank_words
from benchmark.results.render.sentences import shouted as shouted
from benchmark.results.render.sentences import summary as summary
from benchmark.results.render.sentences import verdict_words as verdict_words

Form = Literal["side_by_side", "paper"]


class Leaf(NamedTuple):
    """One printed column of numbers in the paper's layout."""

    column: GridColumn
    metric: str
    statistic: str


class Shown(NamedTuple):
    """A cell in words: a number with its std and n, or a word for why there is none.

    ``seeds`` is "3", or "2 of 3" while seeds are missing; ``word`` is a state, beside a number
    if more is under way; ``reference`` marks a published value that was never trained.
    """

    mean: str = ""
    std: str = ""
    seeds: str = ""
    word: str = ""
    best: bool = False
    letters: str = ""
    reference: bool = False


def leaves(grid: Grid, statistics: Sequence[str]) -> list[Leaf]:
    """Return the number columns: one a column, metric and statistic shown."""
    return [Leaf(c, m, s) for c in grid.columns for m in grid.metrics for s in statistics]


def leaf_label(grid: Grid, leaf: Leaf, statistics: Sequence[str]) -> str:
    """Return what tells the leaves of one column apart; empty if it has one only."""
    parts = [metric_label(leaf.metric)] if len(grid.metrics) > 1 else []
    if len(statistics) > 1:
        parts.append(statistic_label(leaf.statistic))
    return ", ".join(parts)


def grouped(rows: Iterable[GridRow]) -> list[tuple[str, list[GridRow]]]:
    """Return neighbouring rows of one group together."""
    return [(name, list(members)) for name, members in groupby(rows, key=lambda row: row.group)]


def info_names(grid: Grid) -> list[str]:
    """Return the names of all extra row fields, in order of first use."""
    return list(dict.fromkeys(name for row in grid.rows for name, _ in row.info))


def stubs(grid: Grid) -> list[str]:
    """Return the names of the text columns: the group, the row's name (unnamed), its info."""
    group = ["group"] if any(row.group for row in grid.rows) else []
    return [*group, "", *info_names(grid)]


def stub_fields(grid: Grid, row: GridRow, *, first: bool) -> list[str]:
    """Return a row's text columns; its group is named in the group's ``first`` row only."""
    values = dict(row.info)
    group = [row.group if first else ""] if any(r.group for r in grid.rows) else []
    return [*group, row.name, *(values.get(name, "") for name in info_names(grid))]


def row_label(row: GridRow) -> str:
    """Return a row's name if no text columns stand beside: with networks of its own."""
    info = dict(row.info)
    own = [f"{n} {info[n]}" for n in ("teacher", "student") if getattr(row, n) and n in info]
    return f"{row.name} ({', '.join(own)})" if own else row.name


def best(grid: Grid, leaf: Leaf) -> frozenset[str]:
    """Return the rows whose printed value is the best of a leaf; ties are all best."""
    own: dict[str, float] = {}
    overridden: dict[str, float] = {}
    for row in grid.rows:
        cell = grid.cell(row.name, leaf.column.name, leaf.metric)
        sample = cell.sample(leaf.statistic) if cell else None
        if cell is None or cell.exact or not row.competes or sample is None or sample.mean is None:
            continue
        group = overridden if cell.overrides else own
        group[row.name] = round(sample.mean, grid.decimals)
    values = own or overridden  # runs with overrides compete among themselves at most
    if not values:
        return frozenset()
    top = max(values.values()) if grid.higher_is_better else min(values.values())
    return frozenset(row for row, value in values.items() if value == top)


def show(grid: Grid, key: CellKey, statistic: str, marks: Footnotes, *, is_best: bool) -> Shown:
    """Return a cell by one statistic as it is printed; a dash if the table has none."""
    cell = grid.cells.get(key)
    if cell is None:
        return Shown(word="-")
    letters = marks.letters(key, cell)
    sample = cell.sample(statistic)
    if sample is not None and sample.mean is not None:
        return _number(cell, sample.mean, sample.std, grid.decimals, letters, is_best)
    if cell.state is State.REFERENCE:
        if cell.published_value is None:
            return Shown(word="unknown")  # it was printed and cannot be read
        return Shown(mean=fixed(cell.published_value, grid.decimals), reference=True)
    word = str(cell.state)
    if cell.values:
        word = f"no {statistic_label(statistic)}"
    elif cell.state is State.DONE:
        word = str(State.MISSING)
    return Shown(word=word, letters=letters)


def show_compared(grid: Grid, key: CellKey, marks: Footnotes) -> Shown:
    """Return ours as it is compared with the published value: by the published statistic."""
    cell = grid.cells.get(key)
    if cell is None or not cell.comparisons:
        return show(grid, key, grid.protocol, marks, is_best=False)
    first = cell.comparisons[0]
    return _number(cell, first.centre, first.std, grid.decimals, marks.letters(key, cell), False)


def _number(
    cell: GridCell, mean: float, std: float | None, decimals: int, letters: str, is_best: bool
) -> Shown:
    short = cell.n < cell.planned
    waiting = cell.state in (State.RUNNING, State.QUEUED, State.FAILED)
    return Shown(
        mean=fixed(mean, decimals),
        std="" if std is None else fixed(std, decimals),
        seeds=f"{cell.n} of {cell.planned}" if short else str(cell.n),
        word=str(cell.state) if waiting else "",
        best=is_best,
        letters=letters,
    )


class Footnotes(NamedTuple):
    """Remarks and where they are said: by letter at cells and rows, or once for all cells.

    Marks on the same cells share a letter. A mark on every cell of a row is said at the row's
    name (``of_rows``), one on every trained cell of the table without a letter (``common``).
    """

    by_mark: dict[Mark, str]
    of_rows: dict[str, tuple[Mark, ...]]
    common: tuple[Mark, ...]

    def letters(self, key: CellKey, cell: GridCell) -> str:
        """Return the letters of a cell, "a,b", without those of its row."""
        return self._join(mark for mark in cell.marks if mark not in self.of_rows[key[0]])

    def row_letters(self, row: str) -> str:
        """Return the letters of a row's name."""
        return self._join(self.of_rows[row])

    def _join(self, marks: Iterable[Mark]) -> str:
        found = {self.by_mark[m] for m in marks if m in self.by_mark}
        return ",".join(sorted(found, key=lambda letter: (len(letter), letter)))


def footnotes(grid: Grid) -> Footnotes:
    """Return the letters of all marks, in the order in which a reader meets them."""
    cells = [item for item in grid.ordered if item[1].state is not State.REFERENCE]
    trained = [cell for _, cell in cells if cell.values and not cell.exact]
    places: dict[Mark, list[CellKey]] = {}
    for key, cell in cells:
        for mark in cell.marks:
            places.setdefault(mark, []).append(key)
    common = [m for m in places if len(trained) > 1 and all(m in c.marks for c in trained)]
    of_rows = {}
    read: dict[Mark, None] = {}  # as one reads: a row's name, then its cells
    for row in grid.rows:
        here = [cell for key, cell in cells if key[0] == row.name]
        # A mark of results is on every cell of its row when it is on all that have results.
        mine = [cell for cell in here if cell.values] or here
        shared = mine[0].marks if mine else ()
        of_rows[row.name] = tuple(m for m in shared if all(m in cell.marks for cell in mine))
        read |= dict.fromkeys([*of_rows[row.name], *(m for cell in here for m in cell.marks)])
    letters: dict[tuple[CellKey, ...], str] = {}
    by_mark = {
        mark: letters.setdefault(tuple(places[mark]), _letter(len(letters)))
        for mark in read
        if mark not in common
    }
    return Footnotes(by_mark, of_rows, tuple(common))


def _letter(index: int) -> str:
    """Return a, b, ..., z, aa, ab, ..."""
    head, tail = divmod(index, 26)
    return (_letter(head - 1) if head else "") + chr(ord("a") + tail)


def readings_shown(grid: Grid) -> list[str]:
    """Return the further statistics by which any cell was compared, in order of first use."""
    return list(
        dict.fromkeys(c.statistic for _, cell in grid.ordered for c in cell.comparisons[1:])
    )


def ours_label(grid: Grid) -> str:
    """Return the heading of our numbers beside the published ones.

    It names their statistic if another stands beside, unless some cells are compared by
    another one than the table's, as published; those have a footnote.
    """
    first = {cell.comparisons[0].statistic for _, cell in grid.ordered if cell.comparisons}
    if readings_shown(grid) and first <= {grid.protocol}:
        return f"ours, {statistic_label(grid.protocol)}"
    return "ours"


def notes(grid: Grid, marks: Footnotes, form: Form) -> list[str]:
    """Return everything that must be said under a table, one line each, letters aside."""
    kind = "error" if grid.show_as == "error" else "accuracy"
    labels = " and ".join(metric_label(metric) for metric in grid.metrics)
    found = [
        f"{labels.capitalize()} {kind} in %, by the {statistic_label(grid.protocol)} protocol: "
        "mean \N{PLUS-MINUS SIGN} standard deviation (number of seeds)"
    ]
    if grid.protocol_note:
        found.append(grid.protocol_note)
    if not grid.has_published:
        found.append("Published values: none")
    elif form == "side_by_side":
        found += _comparison_notes(grid)
    if marks.common:
        found.append(f"All trained cells: {_sentence(marks.common)}")
    found += _expected_misses(grid, form)
    if any(c.state is State.REFERENCE for _, c in grid.ordered) and form == "paper":
        found.append("In italics: published only, not trained here")
    found += grid.footnotes
    if grid.made_by:
        found.append(f"Made by {grid.made_by}")
    return [f"{text[:1].upper()}{text[1:]}".rstrip(".") for text in found]


def _comparison_notes(grid: Grid) -> list[str]:
    found = []
    if grid.noise:
        found.append(f"Seed noise known beforehand: {'; '.join(grid.noise)}")
    unstated = [cell for _, cell in grid.ordered if cell.published and cell.published.n is None]
    if any(cell.published_value is not None for cell in unstated):
        runs, why = grid.unstated_n.runs, grid.unstated_n.note
        counts = "one run" if runs == 1 else count(runs, "run")
        said = f"A published value without a number of runs counts as {counts}"
        found.append(f"{said}: {why}" if why else said)
    silent = sum(c.published is not None and c.published.std is not None for c in unstated)
    if silent:
        one = "its source does not say" if silent == 1 else "their sources do not say"
        found.append(
            f"{count(silent, 'published standard deviation')} cannot be judged by, since {one} over"
            " how many runs"
        )
    return found


def _expected_misses(grid: Grid, form: Form) -> list[str]:
    if form == "paper":
        return []
    reasons: dict[str, list[str]] = {}
    for (row, column, _), cell in grid.ordered:
        if cell.verdict is Verdict.EXPECTED_MISS and cell.expected_miss:
            reasons.setdefault(cell.expected_miss.why, []).append(f"{row}, {column}")
    return [f"Expected miss: {'; '.join(places)}: {why}" for why, places in reasons.items()]


def lettered(marks: Footnotes) -> list[tuple[str, str]]:
    """Return the footnotes as (letter, text)."""
    found: dict[str, list[Mark]] = {}
    for mark, letter in marks.by_mark.items():
        found.setdefault(letter, []).append(mark)
    return [(letter, _sentence(said)) for letter, said in found.items()]


def _sentence(marks: Iterable[Mark]) -> str:
    """Return marks as one sentence, with the assumed options together."""
    said = list(marks)
    texts = [mark.text.rstrip(".") for mark in said if mark.kind is not MarkKind.ASSUMED]
    assumed = [mark.text.rstrip(".") for mark in said if mark.kind is MarkKind.ASSUMED]
    return "; ".join([*texts, *([f"assumed: {'; '.join(assumed)}"] if assumed else [])])
