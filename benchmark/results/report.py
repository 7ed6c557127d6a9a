"""What ``bench collect`` does: fill a table, judge it, write it, show it, explain a cell."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from benchmark import __version__
from benchmark.base.errors import UserError, unknown
from benchmark.base.files import make_directory, write_text
from benchmark.base.git import git
from benchmark.base.log import say
from benchmark.base.shipped import code_root
from benchmark.methods.catalog import plugin_files
from benchmark.results.collect import Collected
from benchmark.results.explain import explain
from benchmark.results.grid import Grid
from benchmark.results.judged import fill
from benchmark.results.writers import doubts
from benchmark.table.load import load_table
from benchmark.table.own_teachers import is_tag
from benchmark.table.selection import Selection
from benchmark.table.spec import Protocol

if TYPE_CHECKING:
    from pandas import DataFrame

FORMATS = ("md", "tex", "csv", "json", "parquet")
ALONE = ("csv", "json")  # printed, if nothing else is asked for
_NAMED = 5  # problems that are named; the others are counted


@dataclass(frozen=True)
class Report:
    """A table filled and judged. ``notes``: what was not counted, in lines for a person.

    ``asked``: the table as it was asked for, by name or path. ``statistics``: the protocols whose
    values are shown, the table's own or chosen one first.
    """

    asked: str
    grid: Grid
    collected: Collected
    runs_dir: Path
    statistics: tuple[str, ...]
    notes: tuple[str, ...]
    siunitx: bool = False
    standalone: bool = False

    def text(self, kind: str) -> str:
        """Return the table as ``md``, ``tex``, ``csv`` or ``json``."""
        return _renderers(self.grid, self.statistics, self.siunitx, self.standalone)[kind]()

    def shown(self) -> str:
        """Return the table as a terminal shows it."""
        from benchmark.results.terminal import show

        return show(self.grid, self.statistics)

    def rows(self) -> DataFrame:
        """Return the runs that stand in the table, one row each."""
        from benchmark.results.frames import table_frame

        return table_frame(self.collected, self.runs_dir)

    def epochs(self) -> DataFrame:
        """Return the epochs of those runs, one row for each run and epoch."""
        from benchmark.results.frames import epochs_frame

        return epochs_frame(self.runs_dir, self.rows()["run"])

    def write(self, formats: Sequence[str], out: Path, rows: bool = False) -> tuple[Path, ...]:
        """Write the table's files below ``out`` and return their paths.

        ``parquet`` writes the rows of runs and of epochs, and so does ``csv`` with ``rows``.
        Raises UserError if a file cannot be written.
        """
        make_directory(out)
        written: list[Path] = []
        for kind in formats:
            if kind == "parquet" or (kind == "csv" and rows):
                from benchmark.results.frames import write_frame

                parts = {"runs": self.rows(), "epochs": self.epochs()}
                for name, frame in parts.items():
                    path = out / f"{self.grid.name}.{name}.{kind}"
                    write_frame(frame, path, kind)
                    written.append(path)
                continue
            path = out / f"{self.grid.name}.{kind}"
            try:
                write_text(path, self.text(kind))
            except OSError as error:
                raise UserError(f"cannot write {path}: {error.strerror}") from error
            written.append(path)
        return tuple(written)


def make_report(
    name: str,
    chosen: Selection | None = None,
    *,
    runs_dir: Path,
    protocol: str | None = None,
    also: str | None = None,
    siunitx: bool = False,
    standalone: bool = False,
) -> Report:
    """Fill and judge a table, by name or path.

    Raises UserError for an unknown table or protocol, and if the runs cannot be read.
    """
    for given, option in ((protocol, "--protocol"), (also, "--also")):
        _check_protocol(given, option)
    chosen = chosen or Selection()
    table = load_table(name)
    collected = fill(table, runs_dir, chosen, protocol)
    grid = replace(collected.grid, made_by=made_by("collect", name, chosen, protocol, also))
    statistics = dict.fromkeys(s for s in (grid.protocol, also) if s is not None)
    notes = tuple(_notes(collected, runs_dir, table.name))
    return Report(name, grid, collected, runs_dir, tuple(statistics), notes, siunitx, standalone)


def explain_cell(
    name: str,
    row: str,
    column: str,
    chosen: Selection | None = None,
    *,
    runs_dir: Path,
    protocol: str | None = None,
) -> str:
    """Return all that is known of one cell: runs, overrides, options and their sources.

    Raises UserError for a row or column that the table does not have or ``chosen`` leaves out.
    """
    _check_protocol(protocol, "--protocol")
    table = load_table(name)
    wanted = table.row(row), table.column(column)
    collected = fill(table, runs_dir, chosen, protocol)
    if (row, column) not in collected.places:
        raise UserError(f"--only leaves out {row}, {column}, which --explain asks for")
    say(*_notes(collected, runs_dir, table.name))
    return explain(table, *wanted, collected, runs_dir)


def _renderers(
    grid: Grid, statistics: Sequence[str], siunitx: bool, standalone: bool
) -> dict[str, Callable[[], str]]:
    # Each is imported when it is asked for: LaTeX alone takes longer than a table of numbers.
    def markdown() -> str:
        from benchmark.results.render import markdown

        return markdown.render(grid, statistics=statistics)

    def latex() -> str:
        from benchmark.results.render import latex

        return latex.render(
            grid, ("paper", "side_by_side"), statistics, siunitx=siunitx, document=standalone
        )

    def csv() -> str:
        from benchmark.results.render import csv

        return csv.render(grid)

    def json() -> str:
        from benchmark.results.render import json

        return json.render(grid)

    return {"md": markdown, "tex": latex, "csv": csv, "json": json}


def parse_formats(text: str | None) -> list[str]:
    """Return the formats of --format, Markdown and LaTeX by default; UserError for others."""
    names = [part.strip() for part in ("md,tex" if text is None else text).split(",")]
    names = list(dict.fromkeys(name for name in names if name))
    for name in names:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS, "--format")
    if not names:
        raise UserError(f"--format is empty (valid: {', '.join(FORMATS)})")
    return names


def _check_protocol(name: str | None, option: str) -> None:
    if name is not None and name not in get_args(Protocol):
        raise unknown("protocol", name, get_args(Protocol), option)


def made_by(
    command: str,
    table: str,
    chosen: Selection,
    protocol: str | None,
    also: str | None = None,
    extra: Sequence[str] = (),
) -> str:
    """Return the command that decides what the table holds, and the version that ran it.

    Where files lie and where they go is left out: the same runs give the same bytes anywhere.
    """
    words = ["bench", command, "--table", Path(table).name if "/" in table else table, *extra]
    words += ["--protocol", protocol] if protocol else []
    words += ["--also", also] if also else []
    for item in chosen.only:
        words += ["--only", f"{item.key}{'!=' if item.excludes else '='}{item.value}"]
    if chosen.seeds is not None:
        words += ["--seeds", ",".join(map(str, chosen.seeds))]
    for network, own in sorted(chosen.teachers.items()):
        file = own.path if is_tag(own.path) else Path(own.path).name
        words += ["--teacher", f"{network}={file}"]
    words += [word for path in plugins_beside(table) for word in ("--plugin", path.name)]
    return f"{shlex.join(words)} (kd-benchmark {__version__}{_commit()})"


def plugins_beside(table: str) -> list[Path]:
    """Return the user's own files of code that the table does not name itself, by name."""
    files = plugin_files()
    named = {Path(name).resolve() for name in load_table(table).plugins} if files else set()
    return sorted((path for path in files if path not in named), key=lambda path: path.name)


def _commit() -> str:
    """Return the commit of this code where it lies in its repository."""
    found = git(
        code_root(), "describe", "--always", "--dirty=+changes", "--exclude=*", "--abbrev=12"
    )
    return f", commit {found}" if found else ""


def _notes(collected: Collected, runs_dir: Path, table: str) -> list[str]:
    lines = []
    if not any(group.runs for groups in collected.groups.values() for group in groups):
        lines.append(f"no runs of {table} in {runs_dir.resolve()}")
    if collected.foreign:
        entries = "1 entry" if collected.foreign == 1 else f"{collected.foreign:,} entries"
        lines.append(f"passed over {entries} of {runs_dir} that are no runs")
    problems = collected.problems
    if problems:
        runs = (
            "1 run directory is" if len(problems) == 1 else f"{len(problems)} run directories are"
        )
        lines.append(f"{runs} not counted:")
        lines += [f"  {line}" for line in problems[:_NAMED]]
        if len(problems) > _NAMED:
            lines.append(f"  and {len(problems) - _NAMED} more")
    counted = (group for groups in collected.groups.values() for group in groups)
    return lines + doubts(runs_dir, dict.fromkeys(r.key for g in counted for r in g.finished))
