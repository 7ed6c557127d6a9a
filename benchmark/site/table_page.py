"""The page of a table: the paper's layout, every comparison, figures, ranks, claims, notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from benchmark.figures.against import Compared, compare_all, reference_words
from benchmark.results.found import Verdict
from benchmark.results.grid import CellKey, Grid, GridCell, GridRow, State
from benchmark.results.render import layout
from benchmark.results.render.layout import Shown, fixed, metric_label
from benchmark.results.render.markdown import SYMBOLS
from benchmark.results.report import Report
from benchmark.site.charts import IntervalChart

_STEPS = (0.15, 0.4, 0.8)  # points at which the shade of a difference deepens
FORMATS = ("md", "tex", "csv", "json")


class PaperCell(NamedTuple):
    """A cell as the paper prints it, with its shade and where its comparison stands."""

    shown: Shown
    delta: str
    symbol: str
    shade: str
    anchor: str


class CellLine(NamedTuple):
    """A line of the comparisons; numbers beside the texts are what it is sorted by."""

    anchor: str
    row: str
    group: str
    column: str
    metric: str
    published: str
    published_sort: float
    ours: Shown
    ours_sort: float
    delta: str
    delta_sort: float
    interval: str
    picture: Markup
    verdict: str
    words: str
    symbol: str
    state: str
    runs: tuple[tuple[str, int], ...]


class SeedsDone(NamedTuple):
    """How far a table is: seeds with a value of those planned, cells by state."""

    seeds: int
    planned: int
    cells: Mapping[State, int]

    @property
    def part(self) -> float:
        """The done part in percent."""
        return 100.0 * self.seeds / self.planned if self.planned else 0.0


def progress(grid: Grid) -> SeedsDone:
    """Return how far a table is; what is only reprinted is not counted."""
    metric = grid.metrics[0]
    mine = [c for k, c in grid.ordered if k[2] == metric and c.state is not State.REFERENCE]
    done = sum(min(c.n + len(c.diverged_seeds), c.planned) for c in mine if not c.overrides)
    states = Counter(cell.state for cell in mine)
    return SeedsDone(done, sum(c.planned for c in mine), {s: states[s] for s in State if states[s]})


def verdict_counts(grid: Grid) -> list[tuple[str, str, int]]:
    """Return the verdicts of a table's own cells: class, words, how many."""
    found: Counter[Verdict] = Counter(
        cell.verdict
        for _, cell in grid.ordered
        if cell.verdict and cell.verdict is not Verdict.NOT_PUBLISHED and not cell.overrides
    )
    return [(kind_of(v), f"{SYMBOLS.get(v, '')} {v}", found[v]) for v in Verdict if found[v]]


def kind_of(verdict: Verdict | None) -> str:
    """Return a verdict as a class of the style sheet."""
    return "none" if verdict is None else str(verdict).replace(" ", "-")


def values(report: Report, pages: Mapping[str, str], figures: Sequence[Any]) -> dict[str, Any]:
    """Return what the template shows; ``pages``: the pages of runs by key."""
    grid = report.grid
    compared = compare_all(grid)
    marks = layout.footnotes(grid)
    anchors = {key: f"c{number}" for number, (key, _) in enumerate(grid.ordered, 1)}
    lines = list(_lines(report, compared, marks, anchors, pages))
    return {
        "grid": grid,
        "progress": progress(grid),
        "verdicts": verdict_counts(grid),
        "headline": layout.headline(grid),
        "shouted": layout.shouted(grid),
        "summary": layout.summary(grid),
        "reference": reference_words(grid),
        "stubs": layout.stubs(grid),
        "leaves": layout.leaves(grid, (grid.protocol,)),
        "several_metrics": len(grid.metrics) > 1,
        "groups": _paper(grid, compared, marks, anchors),
        "lines": lines,
        "columns": [
            (c.name, f"{c.teacher_label} \N{RIGHTWARDS ARROW} {c.student_label}")
            for c in grid.columns
        ],
        "kinds": sorted({line.verdict for line in lines}),
        "rankings": [
            (
                metric_label(r.metric),
                r,
                layout.rank_words(r),
                [layout.pair_words(p) for p in r.pairs],
            )
            for r in grid.ranks
        ],
        "claims": grid.claim_results,
        "notes": layout.notes(grid, marks, "side_by_side"),
        "legend": [(SYMBOLS[v], str(v), text) for v, text in layout.legend(grid)],
        "lettered": layout.lettered(marks),
        "problems": report.notes,
        "figures": figures,
        "formats": FORMATS,
    }


def _paper(
    grid: Grid,
    compared: Mapping[CellKey, Compared],
    marks: layout.Footnotes,
    anchors: Mapping[CellKey, str],
) -> list[list[tuple[list[str], str, list[PaperCell]]]]:
    """Return the rows in groups: text columns, footnotes of the row, cells."""
    leaves = layout.leaves(grid, (grid.protocol,))
    best = {leaf: layout.best(grid, leaf) for leaf in leaves}
    groups = []
    for _, rows in layout.grouped(grid.rows):
        lines = []
        for place, row in enumerate(rows):
            cells = []
            for leaf in leaves:
                key = (row.name, leaf.column.name, leaf.metric)
                shown = layout.show(
                    grid, key, leaf.statistic, marks, is_best=row.name in best[leaf]
                )
                one = compared.get(key)
                delta = "" if one is None else fixed(one.delta, grid.decimals, sign=True)
                cells.append(
                    PaperCell(
                        shown,
                        delta,
                        one.symbol if one else "",
                        _shade(grid, one),
                        anchors.get(key, ""),
                    )
                )
            stub = layout.stub_fields(grid, row, first=place == 0)
            lines.append((stub, marks.row_letters(row.name), cells))
        groups.append(lines)
    return groups


def _shade(grid: Grid, one: Compared | None) -> str:
    """Return the class of a difference's colour: up or down, in three depths."""
    if one is None:
        return ""
    depth = sum(abs(one.delta) >= step for step in _STEPS)
    better = (one.delta > 0) == grid.higher_is_better
    return f"{'up' if better else 'down'}{depth}" if depth else ""


def _lines(
    report: Report,
    compared: Mapping[CellKey, Compared],
    marks: layout.Footnotes,
    anchors: Mapping[CellKey, str],
    pages: Mapping[str, str],
) -> Iterator[CellLine]:
    grid = report.grid
    rows: dict[str, GridRow] = {row.name: row for row in grid.rows}
    columns = {
        c.name: f"{c.teacher_label} \N{RIGHTWARDS ARROW} {c.student_label}" for c in grid.columns
    }
    readings = {
        run.key: run
        for groups in report.collected.groups.values()
        for g in groups
        for run in g.runs
    }
    ends = [
        abs(x) for one in compared.values() for x in (one.delta, one.low, one.high) if x is not None
    ]
    reach = min(max(ends, default=1.0), 8 * grid.margin if grid.has_published else 1e9) or 1.0
    for key, cell in grid.ordered:
        row, column, metric = key
        one = compared.get(key)
        picture = Markup("")
        if one is not None:
            margin = grid.margin_of(metric) if grid.has_published else None
            chart = IntervalChart(reach, margin)
            picture = chart.draw(one.delta, one.low, one.high, f"v-{kind_of(one.verdict)}")
        shown = layout.show_compared(grid, key, marks)
        judged = bool(cell.values) and grid.has_published
        yield CellLine(
            anchors[key],
            layout.row_label(rows[row]),
            rows[row].group,
            columns[column],
            metric_label(metric),
            _published(grid, cell),
            _number(cell.published_value),
            shown,
            _number(cell.comparisons[0].centre if cell.comparisons else cell.mean),
            "" if one is None else fixed(one.delta, grid.decimals, sign=True),
            _number(one.delta if one else None),
            _interval(grid, one),
            picture,
            kind_of(cell.verdict) if judged else str(cell.state),
            layout.cell_words(grid, key) if judged else str(cell.state),
            SYMBOLS.get(cell.verdict, "") if cell.verdict else "",
            str(cell.state),
            tuple((pages[k], readings[k].seed) for k in cell.runs if k in pages and k in readings),
        )


def _published(grid: Grid, cell: GridCell) -> str:
    if cell.published is None:
        return ""
    return "unknown" if cell.published.value is None else fixed(cell.published.value, grid.decimals)


def _interval(grid: Grid, one: Compared | None) -> str:
    if one is None or one.low is None or one.high is None:
        return ""
    low, high = (fixed(x, grid.decimals, sign=True) for x in (one.low, one.high))
    return f"{low} to {high}"


def _number(value: float | None) -> float:
    """Return what a column is sorted by: what is missing comes last."""
    return -9999.0 if value is None else round(value, 6)
