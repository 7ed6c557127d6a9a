"""Fill a table from runs: what stands in each cell of its grid.

`assign.py` says which run belongs to which slot, `choose.py` which of them are shown; here the
grid is built around them. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from benchmark.data.datasets import dataset_infos
from benchmark.planning.matrix import Slot
from benchmark.results.assign import Expected, Group, Place, assign, expect, selected
from benchmark.results.choose import Choice, choose, progress
from benchmark.results.described import describe, is_apart
from benchmark.results.grid import (
    CellCost,
    CellKey,
    Grid,
    GridCell,
    GridColumn,
    GridRow,
    Mark,
    MarkKind,
    RowKind,
    SeedValues,
    State,
    as_shown,
)
from benchmark.results.whose import file_marks
from benchmark.run.index import RunIndex
from benchmark.run.reading import STATISTICS, Reading, signature
from benchmark.run.state import RunState
from benchmark.submission.ends import as_noted, noted_failures
from benchmark.submission.sent import only_shown, runs_beside
from benchmark.table.published import ExpectedMiss
from benchmark.table.selection import Selection
from benchmark.table.spec import Column, Row, Table

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass
class Collected:
    """A filled grid, which runs stand behind it, and what is not counted.

    :func:`collect` fills the whole table, since verdicts, claims and ranks are about all of it;
    ``places`` are those that shall be shown in the end. ``problems``: a line for each run
    directory that cannot be counted; ``foreign``: how many entries are no runs at all.
    """

    grid: Grid
    places: frozenset[Place]
    slots: tuple[Slot, ...]
    groups: dict[Place, list[Group]] = field(default_factory=dict)
    choices: dict[CellKey, Choice] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    foreign: int = 0


def collect(
    table: Table,
    index: RunIndex,
    chosen: Selection | None = None,
    protocol: str | None = None,
) -> Collected:
    """Return the whole table filled from an index that is up to date.

    ``chosen`` limits it to some seeds, and names the ``places`` that shall be shown in the end;
    ``protocol`` replaces the table's own. Raises UserError if nothing matches.
    """
    chosen = chosen or Selection()
    places = selected(table, chosen)
    expected = expect(table, chosen)
    groups = _runs(expected, index)
    reported = protocol or table.protocol.report
    cells: dict[CellKey, GridCell] = {}
    choices: dict[CellKey, Choice] = {}
    for slot in expected.slots:
        place: Place = (slot.row.name, slot.column.name)
        if not slot.variants and not slot.row.reference:
            continue  # the table leaves this one out: a dash
        for metric in table.metrics:
            known = table.published_value(*place, metric)
            if slot.row.reference and known is None:
                continue  # a dash: it was never to be trained, and nobody printed it
            choice = choose(slot, groups.get(place, []), metric, reported)
            choices[(*place, metric)] = choice
            cells[(*place, metric)] = _cell(expected, slot, choice, metric, reported)
    return Collected(
        _grid(table, cells, reported),
        places,
        expected.slots,
        groups,
        choices,
        [f"{run.key}: {run.reason}" for run in index.damaged()],
        index.foreign,
    )


def _runs(expected: Expected, index: RunIndex) -> dict[Place, list[Group]]:
    """Return all runs that belong to the table by slot, those that only a queue has included."""
    with only_shown():
        noted = noted_failures(index.runs_dir)
    runs = {run.key: as_noted(run, noted) for run in index.runs(expected.templates)}
    cells = index.cells(expected.templates)
    running = [key for key, run in runs.items() if run.state is RunState.RUNNING]
    with only_shown():
        beside = runs_beside(index.runs_dir, expected.table.name, running)
    for key, run in beside.items():
        if key in runs and runs[key].state is RunState.STOPPED:
            runs[key] = runs[key]._replace(state=RunState.QUEUED)
        elif key not in runs and signature(run) in expected.templates:
            cells.setdefault(run.cell_key, (signature(run), run.cell_identity))
            teacher = run.teacher.key if run.teacher else None
            runs[key] = Reading(
                key, RunState.QUEUED, cell=run.cell_key, seed=run.seed, teacher=teacher
            )
    return assign(expected, cells, runs.values(), index.teacher)


# -- what stands in a cell ------------------------------------------------------------------


def _cell(
    expected: Expected,
    slot: Slot,
    choice: Choice,
    metric: str,
    protocol: str,
) -> GridCell:
    table, row, column = expected.table, slot.row, slot.column
    empty = GridCell(
        State.REFERENCE,
        published=table.published_value(row.name, column.name, metric),  # type: ignore[arg-type]
        expected_miss=_expected_miss(table, row, column, metric),
    )
    if row.reference:
        return empty
    planned = expected.planned(slot)
    state, failed = progress(choice, planned * len(slot.variants))
    shown = choice.shown
    file = file_marks(shown.file, shown.finished, row.of == "teacher") if shown else []
    marks = (*_assumed_marks(row, column), *choice.marks, *file, *_teacher_marks(shown))
    if shown is None:
        return replace(empty, state=state, planned=planned, marks=marks)
    samples = tuple(
        SeedValues(
            statistic,
            tuple(as_shown(run.value(metric, statistic), table.show_as) for run in shown.finished),
        )
        for statistic in (protocol, *(s for s in STATISTICS if s != protocol))
    )
    diverged = {run.seed for run in shown.runs if run.state is RunState.DIVERGED}
    return replace(
        empty,
        state=state,
        samples=samples if shown.finished else (),
        seeds=tuple(run.seed for run in shown.finished),
        planned=planned,
        exact=shown.evaluated,
        diverged_seeds=tuple(sorted(diverged)),
        failed_seeds=failed,
        overrides=describe(shown),
        marks=marks,
        selection=choice.selection,
        runs=tuple(run.key for run in shown.runs if run.state is not RunState.QUEUED),
        teachers=tuple(run.teacher or "" for run in shown.finished),
        cost=None if shown.evaluated else _cost(shown.finished),
        own_teacher=row.of is None and any(_trained_here(run) for run in shown.finished),
        incomparable=empty.published_value is not None and is_apart(shown),
    )


def _cost(runs: Sequence[Reading]) -> CellCost | None:
    """Return the mean seconds of an epoch, and what a prediction does."""
    measured = [run.measured for run in runs if run.measured is not None]
    if not measured:
        return None
    told = next((run.prediction for run in runs if run.prediction is not None), None)
    seconds = fmean(found.student + (found.teacher or 0.0) for found in measured)
    return CellCost(seconds, *(told or ()))


def _trained_here(run: Reading) -> bool:
    """Return whether the run's teacher is a run, not the digest of a public checkpoint."""
    return run.teacher is not None and not _DIGEST.fullmatch(run.teacher)


def _expected_miss(table: Table, row: Row, column: Column, metric: str) -> ExpectedMiss | None:
    wanted = (row.name, column.name, metric)
    return next((m for m in table.expected_misses if (m.row, m.column, m.metric) == wanted), None)


def _assumed_marks(row: Row, column: Column) -> tuple[Mark, ...]:
    return tuple(
        Mark(MarkKind.ASSUMED, f"{item.option} ({item.note})")
        for item in row.assumed_in(column.name)
    )


def _teacher_marks(shown: Group | None) -> list[Mark]:
    """Return a remark if runs that name one teacher read different files of it."""
    files: dict[str | None, set[str]] = {}
    for run in shown.runs if shown else ():
        if run.teacher_file:
            files.setdefault(run.teacher, set()).add(run.teacher_file)
    if all(len(found) == 1 for found in files.values()):
        return []
    return [Mark(MarkKind.OTHER, "its runs read different files of one teacher, see --explain")]


# -- the grid around them -------------------------------------------------------------------


def _grid(table: Table, cells: Mapping[CellKey, GridCell], reported: str) -> Grid:
    rows = [r for r in table.rows if any(key[0] == r.name for key in cells)]
    columns = [c for c in table.columns if any(key[1] == c.name for key in cells)]
    paper = table.source.paper + (f", table {table.source.table}" if table.source.table else "")
    return Grid(
        name=table.name,
        title=table.title or table.source.paper,
        source=paper + (f" (arXiv {table.source.arxiv})" if table.source.arxiv else ""),
        metrics=table.metrics,
        protocol=reported,
        columns=tuple(_column(table, column) for column in columns),
        rows=tuple(_row(table, row) for row in rows),
        cells=cells,
        dataset=table.dataset,
        show_as=table.show_as,
        protocol_note=_protocol_note(table, reported),
        margin=table.margin,
        margins=tuple(table.margins.items()),
        max_seeds=table.max_seeds,
        max_divergence=table.max_divergence,
        chance=_chance(table),
        unstated_n=table.unstated_n,
        footnotes=(table.note,) if table.note else (),
        claims=table.claims,
    )


def _chance(table: Table) -> tuple[tuple[str, float], ...]:
    """Return the accuracy of guessing, as printed: what a diverged run is worth."""
    known = dataset_infos().get(table.dataset)
    if known is None:
        return ()
    guesses = {"top1": 1, "top5": 5}
    return tuple(
        (metric, as_shown(100.0 * guesses[metric] / known.num_classes, table.show_as))
        for metric in table.metrics
    )


def _column(table: Table, column: Column) -> GridColumn:
    return GridColumn(
        name=column.name,
        teacher=column.teacher,
        student=column.student,
        teacher_label=table.display(column.teacher),
        student_label=table.display(column.student),
        group=column.group or "",
        dataset=column.dataset or table.dataset,
    )


def _row(table: Table, row: Row) -> GridRow:
    kind: RowKind = "reference" if row.reference else (row.of or "method")
    # Networks of the row's own stand beside its name, since the column's head names others.
    own = {"teacher": row.teacher, "student": row.student}
    info = {**row.info, **{k: table.display(v) for k, v in own.items() if v and k not in row.info}}
    return GridRow(
        name=row.name,
        kind=kind,
        group=row.group or "",
        counts_for_best=row.counts_for_best,
        info=tuple(info.items()),
        teacher=row.teacher or "",
        student=row.student or "",
    )


def _protocol_note(table: Table, reported: str) -> str:
    own = table.protocol.report
    if reported != own:
        return f"the table's own protocol is {own.replace('_', ' ')}"
    return table.protocol.note or ""
