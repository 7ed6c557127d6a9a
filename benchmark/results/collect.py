"""Fill a table from runs: which run counts for which slot, and what stands in each cell.

A run is a slot's own when its cell is exactly the table's. A run that differs from it (a
shorter recipe, another option, a subset of the data) is shown only where no own run is, with
every difference named. Imports no torch.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.matrix import Context, Plan, Slot, make_plan
from benchmark.results.grid import (
    CellKey,
    Grid,
    GridCell,
    GridColumn,
    GridRow,
    Mark,
    MarkKind,
    RowKind,
    Sample,
    Selection,
    State,
    as_shown,
)
from benchmark.results.index import STATISTICS, IndexedRun, RunIndex, signature
from benchmark.rundir import RunDir
from benchmark.runs import Run, differences
from benchmark.selection import Selection as Chosen
from benchmark.spec import Column, Row, Table

# Planning for collection must not depend on what lies on this machine: a table is about the
# official data, and runs on other data are overrides.
_NO_DATA = Path("/nonexistent")
DEVICES = ("cuda", "cpu")


@dataclass(frozen=True)
class Group:
    """Runs of one cell that stand for one variant of a slot; no differences: its own."""

    variant: int
    cell: str
    differences: Mapping[str, Any]
    runs: tuple[IndexedRun, ...]

    @property
    def finished(self) -> list[IndexedRun]:
        """The runs with values, one a seed."""
        by_seed = {run.seed: run for run in reversed(self.runs) if run.state == "done"}
        return [by_seed[seed] for seed in sorted(by_seed)]


@dataclass
class Collected:
    """A filled grid before it is judged, which runs stand behind it, and what cannot be counted."""

    grid: Grid
    plan: Plan
    groups: dict[tuple[str, str], list[Group]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def collect(
    table: Table,
    index: RunIndex,
    chosen: Chosen | None = None,
    protocol: str | None = None,
    made_by: str = "",
) -> Collected:
    """Return the table filled from an index that is up to date.

    ``chosen`` limits it to some rows and columns; ``protocol`` replaces the table's own.
    """
    chosen = chosen or Chosen()
    plans = [make_plan(table, chosen, Context(_NO_DATA, device)) for device in DEVICES]
    assigned = _assign(plans, index)
    reported = protocol or table.protocol.report
    cells: dict[CellKey, GridCell] = {}
    for slot in plans[0].slots:
        place = (slot.row.name, slot.column.name)
        groups = assigned.get(place, [])
        if not slot.variants and not slot.row.reference:
            continue  # the table leaves this one out: a dash
        for metric in table.metrics:
            cells[(*place, metric)] = _cell(table, slot, groups, metric, reported, index, chosen)
    rows = [r for r in table.rows if any(key[0] == r.name for key in cells)]
    columns = [c for c in table.columns if any(key[1] == c.name for key in cells)]
    paper = table.source.paper + (f", table {table.source.table}" if table.source.table else "")
    grid = Grid(
        name=table.name,
        title=table.title or table.source.paper,
        source=paper + (f" (arXiv {table.source.arxiv})" if table.source.arxiv else ""),
        metrics=table.metrics,
        protocol=reported,
        columns=tuple(_column(table, column) for column in columns),
        rows=tuple(_row(row) for row in rows),
        cells=cells,
        dataset=table.dataset,
        show_as=table.show_as,
        protocol_note=_protocol_note(table, reported),
        margin=table.margin,
        footnotes=(table.note,) if table.note else (),
        claims=_claims(table, rows, columns),
        made_by=made_by,
    )
    return Collected(grid, plans[0], assigned, [f"{key}: {why}" for key, why in index.broken()])


# -- which run belongs to which slot --------------------------------------------------------


def _assign(plans: Sequence[Plan], index: RunIndex) -> dict[tuple[str, str], list[Group]]:
    """Sort the indexed runs into groups by slot."""
    own: dict[str, set[tuple[str, str, int]]] = defaultdict(set)
    places: dict[str, list[tuple[tuple[str, str], int, Run]]] = defaultdict(list)
    teachers: dict[tuple[str, int], set[str]] = defaultdict(set)
    for plan in plans:
        for slot in plan.slots:
            place = (slot.row.name, slot.column.name)
            for number, variant in enumerate(slot.variants):
                own[variant.cell_key].add((*place, number))
                if plan is plans[0]:
                    example = variant.runs[0]
                    places[signature(example)].append((place, number, example))
                for run in variant.runs:
                    if run.teacher:
                        teachers[variant.cell_key, run.seed].add(run.teacher.key)
    known = index.cells(places)
    by_cell: dict[str, list[IndexedRun]] = defaultdict(list)
    for indexed in index.runs(places):
        by_cell[indexed.cell].append(indexed)
    groups: dict[tuple[str, str], list[Group]] = defaultdict(list)
    for cell, runs in by_cell.items():
        if cell in own:
            mine, foreign = _by_teacher(runs, cell, teachers)
            for row, column, number in sorted(own[cell]):
                if mine:
                    groups[row, column].append(Group(number, cell, {}, tuple(mine)))
                if foreign:
                    told = {"teacher": "another than the table's"}
                    groups[row, column].append(Group(number, cell, told, tuple(foreign)))
        elif cell in known:
            place_of, identity = known[cell]
            for place, number, told in _nearest(places[place_of], identity):
                groups[place].append(Group(number, cell, told, tuple(runs)))
    return groups


def foreign_runs(
    collected: Collected, place: tuple[str, str], group: Group
) -> dict[str, tuple[Any, Any]]:
    """Return what differs between a group and its slot: field -> (the runs' value, the table's)."""
    slot = next(s for s in collected.plan.slots if (s.row.name, s.column.name) == place)
    ours = slot.variants[group.variant].runs[0].cell_identity
    return {name: (value, _at(ours, name)) for name, value in group.differences.items()}


def _at(data: Any, path: str) -> Any:
    """Return the value at a dotted path; names may hold dots and colons (versions.model:x)."""
    if path in data:
        return data[path]
    for name, inner in data.items():
        if path.startswith(f"{name}.") and isinstance(inner, dict):
            return _at(inner, path.removeprefix(f"{name}."))
    return None


def _by_teacher(
    runs: list[IndexedRun], cell: str, teachers: Mapping[tuple[str, int], set[str]]
) -> tuple[list[IndexedRun], list[IndexedRun]]:
    """Split a cell's runs by whether their teacher is the one that the table trains."""
    mine: list[IndexedRun] = []
    foreign: list[IndexedRun] = []
    fixed = set().union(*(keys for (name, _), keys in teachers.items() if name == cell))
    for run in runs:
        expected = teachers.get((cell, run.seed))
        if expected is None:
            # A seed beyond the table's: a fixed teacher is the same, another cannot be known.
            expected = fixed | {run.teacher or ""}
        (mine if run.teacher is None or run.teacher in expected else foreign).append(run)
    return mine, foreign


def _nearest(
    candidates: Sequence[tuple[tuple[str, str], int, Run]], identity: dict[str, Any]
) -> list[tuple[tuple[str, str], int, dict[str, Any]]]:
    """Return the slots that a foreign cell is closest to, with what differs."""
    compared = []
    for place, number, example in candidates:
        told = differences(example.cell_identity, identity)
        told.pop("recipe.device", None)
        compared.append((place, number, told))
    fewest = min((len(told) for _, _, told in compared), default=0)
    nearest: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}
    for place, number, told in compared:
        if len(told) == fewest and place not in nearest:
            nearest[place] = (number, told)
    return [(place, number, told) for place, (number, told) in nearest.items()]


# -- what stands in a cell ------------------------------------------------------------------


def _cell(
    table: Table,
    slot: Slot,
    groups: Sequence[Group],
    metric: str,
    protocol: str,
    index: RunIndex,
    chosen: Chosen,
) -> GridCell:
    row, column = slot.row, slot.column
    published = table.published_value(row.name, column.name, metric)  # type: ignore[arg-type]
    miss = next(
        (
            f"{m.reason} ({m.source})"
            for m in table.expected_misses
            if (m.row, m.column, m.metric) == (row.name, column.name, metric)
        ),
        None,
    )
    if row.reference:
        return GridCell(State.REFERENCE, published=published, expected_miss=miss)
    planned = len(slot.variants[0].runs) if slot.variants else 0
    shown, selection, others = _choose(slot, groups, metric, protocol, row)
    marks = _assumed_marks(row, column)
    if others:
        text = f"{others} further group{'s' * (others > 1)} of runs with other overrides exist"
        marks += (Mark(MarkKind.OTHER, text),)
    if shown is None:
        return GridCell(
            State.MISSING, planned=planned, published=published, expected_miss=miss, marks=marks
        )
    values = [run for run in shown.finished if (metric, protocol) in run.values]
    order = (protocol, *(s for s in STATISTICS if s != protocol))
    samples = tuple(
        Sample(s, tuple(as_shown(run.values[metric, s], table.show_as) for run in values))
        for s in order
    )
    diverged = tuple(sorted(run.seed for run in shown.runs if run.state == "diverged"))
    state, failed = _state(shown, index.runs_dir, len(values), len(diverged), planned)
    overrides = describe(shown.differences)
    data = tuple(
        Mark(MarkKind.DATA, "other data than the official one")
        for name in shown.differences
        if name.startswith("dataset")
    )
    example = slot.variants[shown.variant].runs[0]
    return GridCell(
        state,
        samples=samples if values else (),
        seeds=tuple(run.seed for run in values),
        planned=planned,
        exact=example.weights is not None,
        diverged_seeds=diverged,
        failed_seeds=failed,
        published=published,
        expected_miss=miss,
        overrides=overrides,
        marks=marks + data,
        selection=selection,
        runs=tuple(run.key for run in shown.runs),
    )


def _choose(
    slot: Slot, groups: Sequence[Group], metric: str, protocol: str, row: Row
) -> tuple[Group | None, Selection | None, int]:
    """Return the group that is shown, how it was selected, and how many others there are.

    The table's own runs count alone as soon as one of them has a value; of groups with
    overrides, the one with the most seeds is shown.
    """
    own = [g for g in groups if not g.differences]
    if any(g.finished for g in own):
        if row.select is None:
            best = max(own, key=lambda g: len(g.finished))
            return best, None, 0
        return (*_select(slot, own, metric, protocol, row), 0)
    foreign = [g for g in groups if g.differences and g.finished]
    if foreign:
        alike = _alike(foreign)
        if row.select is not None:
            return (*_select(slot, alike, metric, protocol, row), 0)
        best = max(alike, key=lambda g: (len(g.finished), g.cell))
        return best, None, len(foreign) - len(alike)
    unfinished = own or [g for g in groups if g.differences]
    if not unfinished:
        return None, None, 0
    return max(unfinished, key=lambda g: (len(g.runs), g.cell)), None, 0


def _alike(groups: Sequence[Group]) -> list[Group]:
    """Return the groups that share the most common set of differences."""
    by_difference: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        by_difference[repr(sorted(group.differences.items(), key=str))].append(group)
    return max(by_difference.values(), key=lambda g: (len(g), sum(len(x.finished) for x in g)))


def _select(
    slot: Slot, groups: Sequence[Group], metric: str, protocol: str, row: Row
) -> tuple[Group, Selection]:
    """Choose a grid's best combination, on the test set or on held-out images."""
    assert row.select is not None
    candidates = [g for g in groups if g.finished]
    on = row.select.on

    def score(group: Group) -> float:
        runs = group.finished
        if on == "split":
            held_out = [run.val_top1 for run in runs if run.val_top1 is not None]
            return statistics.fmean(held_out) if held_out else -math.inf
        return statistics.fmean(run.values[metric, protocol] for run in runs)

    best = max(candidates, key=score)
    assignment = slot.variants[best.variant].assignment
    words = ", ".join(
        f"{k.partition('.')[2]} = {v:g}"
        if isinstance(v, int | float)
        else f"{k.partition('.')[2]} = {v}"
        for k, v in assignment.items()
    )
    return best, Selection(chosen=words, on=on, candidates=len(candidates))


def _state(
    group: Group, runs_dir: Path, values: int, diverged: int, planned: int
) -> tuple[State, tuple[int, ...]]:
    """Return how far a group is, and the seeds that failed."""
    open_runs = [run for run in group.runs if run.state == "open"]
    states = {run.seed: RunDir(runs_dir, run.key).state() for run in open_runs}
    broken = [run.seed for run in group.runs if run.state == "broken"]
    failed = tuple(sorted([s for s, state in states.items() if state == "failed"] + broken))
    if "running" in states.values():
        return State.RUNNING, failed
    if values and values + diverged >= planned:
        return State.DONE, failed
    if failed:
        return State.FAILED, failed
    if values:
        return State.PARTIAL, failed
    if diverged:
        return State.DIVERGED, failed
    return (State.PARTIAL if states else State.MISSING), failed


def describe(told: Mapping[str, Any]) -> tuple[str, ...]:
    """Return differences from the table's own cell as words."""
    words = []
    for name, value in told.items():
        if name.startswith("dataset"):
            words.append("data: not the official set")
        elif name.startswith("versions.") or name == "versions":
            words.append(f"{name.partition('.')[2]} version {value}")
        elif name == "methods":
            words.append("method options differ")
        else:
            words.append(f"{name.replace('.options.', '.')} = {value}")
    return tuple(dict.fromkeys(words))


def _assumed_marks(row: Row, column: Column) -> tuple[Mark, ...]:
    return tuple(
        Mark(MarkKind.ASSUMED, f"{item.option} is assumed: {item.note}")
        for item in row.assumed
        if item.columns is None or column.name in item.columns
    )


# -- headers --------------------------------------------------------------------------------


def _column(table: Table, column: Column) -> GridColumn:
    return GridColumn(
        name=column.name,
        teacher=column.teacher,
        student=column.student,
        teacher_label=table.display(column.teacher),
        student_label=table.display(column.student),
    )


def _row(row: Row) -> GridRow:
    kind: RowKind = "reference" if row.reference else (row.of or "method")
    return GridRow(
        name=row.name,
        kind=kind,
        group=row.group or "",
        counts_for_best=row.counts_for_best,
        info=tuple(row.info.items()),
    )


def _protocol_note(table: Table, reported: str) -> str:
    if reported != table.protocol.report:
        return f"the table's own protocol is {table.protocol.report}"
    return table.protocol.note or ""


def _claims(table: Table, rows: Iterable[Row], columns: Iterable[Column]) -> tuple[Any, ...]:
    """Claims about rows and columns that are shown; a partial table is not judged by others."""
    shown_rows, shown_columns = {r.name for r in rows}, {c.name for c in columns}
    return tuple(
        claim
        for claim in table.claims
        if all(
            {e.row, *e.than} <= shown_rows and set(e.columns or ()) <= shown_columns
            for e in claim.expect
        )
    )
