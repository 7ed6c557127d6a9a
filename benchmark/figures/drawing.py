"""What a kind of figure gives back, and what it may look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.base.errors import UserError
from benchmark.base.log import say
from benchmark.results.grid import Grid, GridColumn, GridRow
from benchmark.results.render.layout import metric_label
from benchmark.results.report import Report
from benchmark.run.directory import RunDir
from benchmark.run.reading import Reading
from benchmark.run.state import RunState
from benchmark.table.own_teachers import OwnTeacher

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

IMAGES = 1000  # that networks are shown, if nothing else is asked for
Line = dict[str, Any]  # of a probe's records
# What has numbers of its own: finished runs, and those that train.
_COUNTED = (RunState.DONE, RunState.RUNNING, RunState.STOPPED, RunState.QUEUED)


@dataclass(frozen=True)
class Drawing:
    """One figure: ``name`` is its file's without ending, ``data`` what is drawn, as rows.

    ``title`` says in one line what it shows; ``runs`` are the keys of the runs behind it.
    """

    name: str
    title: str
    figure: Figure
    data: Sequence[dict[str, Any]]
    runs: tuple[str, ...]


@dataclass(frozen=True)
class FigureSource:
    """A judged table with the runs behind it.

    ``images``: how many test images kinds look at that run networks; ``looked``: what they saw;
    ``teachers``: the user's own files, by network.
    """

    report: Report
    data_dir: Path
    images: int = IMAGES
    teachers: Mapping[str, OwnTeacher] = field(default_factory=dict)
    looked: dict[tuple[object, ...], Any] = field(default_factory=dict, repr=False)

    @property
    def grid(self) -> Grid:
        """The judged table."""
        return self.report.grid

    @property
    def runs_dir(self) -> Path:
        """Where the runs lie."""
        return self.report.runs_dir

    @cached_property
    def readings(self) -> dict[str, Reading]:
        """How each run stands that stands in the table, by key."""
        groups = self.report.collected.groups.values()
        return {run.key: run for of in groups for group in of for run in group.runs}

    def runs_of(self, row: str, column: str) -> list[Reading]:
        """Return the runs that are shown in a place by seed, without diverged and failed ones."""
        cells = (self.grid.cell(row, column, metric) for metric in self.grid.metrics)
        keys = dict.fromkeys(key for cell in cells if cell is not None for key in cell.runs)
        found = [self.readings[key] for key in keys if key in self.readings]
        return sorted((r for r in found if r.state in _COUNTED), key=lambda run: run.seed)

    def first_done(self, row: str, column: str) -> Reading | None:
        """Return the finished run of the lowest seed in a place, whose network is looked into."""
        done = (run for run in self.runs_of(row, column) if run.state is RunState.DONE)
        return next(done, None)

    def trained_rows(self, column: str) -> list[tuple[GridRow, list[Reading]]]:
        """Return the rows of a column that have runs of students, with them."""
        rows = [row for row in self.grid.rows if row.kind in ("student", "method")]
        found = [(row, self.runs_of(row.name, column)) for row in rows]
        return [(row, runs) for row, runs in found if runs]

    def probed(self, row: str, column: str, probe: str) -> list[tuple[Reading, list[Line]]]:
        """Return what a probe recorded of a place's runs by epoch; a file that is broken is said.

        Runs without any are left out.
        """
        found = []
        for run in self.runs_of(row, column):
            try:
                lines = RunDir(self.runs_dir, run.key).read_probes()
            except UserError as error:
                say(f"{run.key} is left out: {error}")
                continue
            if mine := [line for line in lines if line.get("probe") == probe]:
                found.append((run, mine))
        return found

    def epochs(self, keys: Iterable[str]) -> DataFrame:
        """Return the recorded epochs of some runs, one row for each run and epoch."""
        from benchmark.results.frames import epochs_frame

        return epochs_frame(self.runs_dir, keys)


def column_title(column: GridColumn) -> str:
    """Return a column in words: teacher to student."""
    arrow = "\N{RIGHTWARDS ARROW}"
    return f"{column.teacher_label or column.teacher} {arrow} {column.student_label}"


def title_of(grid: Grid, shown: str, metric: str = "") -> str:
    """Return a figure's title: the table's, without its unit, and what is shown of it."""
    label = f", {metric_label(metric)}" if metric and len(grid.metrics) > 1 else ""
    return f"{grid.title.removesuffix(' (%)')}: {shown}{label}"


def file_name(*parts: str) -> str:
    """Return a file's name from words: whatever is not plain becomes an underscore."""
    joined = "-".join(part for part in parts if part)
    return "".join(c if c.isalnum() or c in "-_.+" else "_" for c in joined)
