"""One look at everything that a report shows: tables, runs, and the queue."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.monitor.look import Seen, look
from benchmark.monitor.standing import Standing
from benchmark.monitor.summary import TableStatus, summarise
from benchmark.monitor.wanted import submitted_plans
from benchmark.results.report import Report, make_report
from benchmark.run.index import RunIndex
from benchmark.run.reading import Reading
from benchmark.run.state import RunState
from benchmark.submission.sent import only_shown, submitted_tables
from benchmark.table.load import load_table, table_files
from benchmark.table.selection import Selection
from benchmark.table.spec import Table


@dataclass(frozen=True)
class ShownPlace:
    """Where a run stands: a cell of a table, by the numbers of its row and column."""

    table: str
    row: str
    column: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gathered:
    """What one look found. ``places``: where each run stands, by key; ``tables`` by name.

    ``place``: what is said of where the runs lie, their folder by default.
    """

    runs_dir: Path
    reports: Sequence[Report]
    tables: dict[str, Table]
    readings: dict[str, Reading]
    places: dict[str, list[ShownPlace]]
    seen: Seen
    statuses: Sequence[TableStatus]
    taken: float = field(default_factory=time.time)
    place: str = ""

    @cached_property
    def shown_runs(self) -> list[Reading]:
        """The runs that have pages: everything whose directory says what it is."""
        return [run for run in self.readings.values() if run.cell]

    def standing(self, run: Reading) -> Standing:
        """Return how a run stands, its queue considered."""
        return self.seen.standings.get(run.key) or Standing(run.state, run.reason)

    def status_of(self, table: str) -> TableStatus | None:
        """Return how a submitted table stands, None for one that was not submitted."""
        return next((status for status in self.statuses if status.table == table), None)


@only_shown()
def gather(names: Sequence[str], runs_dir: Path, data_dir: Path, max_age: float = 0.0) -> Gathered:
    """Look at some tables, or at all that a runs directory has runs of.

    With ``names`` only the runs of those tables are shown. ``max_age``: how many seconds old the
    queue may be. Raises UserError for an unknown table, and if there is no table to show.
    """
    index = RunIndex(runs_dir)
    index.refresh()
    found = {run.key: run for run in index.all_runs()}
    wanted = list(names) or _tables_of(runs_dir, index)
    if not wanted:
        raise UserError(
            f"no table has runs in {runs_dir.resolve()}; --table names one, --runs another place"
        )
    reports, tables = [], {}
    places: dict[str, list[ShownPlace]] = {}
    for name in wanted:
        table = load_table(name)
        report = make_report(name, Selection(), runs_dir=runs_dir)
        if not names and not any(report.collected.groups.values()):
            continue
        reports.append(report)
        tables[table.name] = table
        _place(report, places)
    readings = found if not names else _with_teachers(found, places)
    plans = submitted_plans(runs_dir, data_dir)
    seen = look(runs_dir, plans, None, max_age)
    statuses = summarise(seen, plans)
    if names:
        statuses = [status for status in statuses if status.table in tables]
    return Gathered(runs_dir, reports, tables, readings, places, seen, statuses)


def _tables_of(runs_dir: Path, index: RunIndex) -> list[str]:
    """Return the tables that were submitted from here, or else all on the data sets of its runs."""
    files = table_files()
    found = [name for name in sorted(submitted_tables(runs_dir)) if name in files]
    if found:
        return found
    datasets = {cell["dataset"]["name"] for cell in index.all_cells().values()}
    for name in files if datasets else ():
        try:
            table = load_table(name)
        except UserError:
            continue
        if table.dataset in datasets:
            found.append(name)
    return found


def _place(report: Report, places: dict[str, list[ShownPlace]]) -> None:
    for (row, column), groups in report.collected.groups.items():
        for group in groups:
            told = tuple(f"{name} = {theirs}" for name, (theirs, _) in group.differences.items())
            for run in group.runs:
                if run.state is not RunState.QUEUED:
                    one = ShownPlace(report.grid.name, row, column, told)
                    places.setdefault(run.key, []).append(one)


def _with_teachers(
    found: dict[str, Reading], places: dict[str, list[ShownPlace]]
) -> dict[str, Reading]:
    """Return the runs that stand in the tables, and those that taught them."""
    mine = {key: run for key, run in found.items() if key in places}
    teachers = {run.teacher for run in mine.values() if run.teacher}
    return {key: run for key, run in found.items() if key in mine or key in teachers}
