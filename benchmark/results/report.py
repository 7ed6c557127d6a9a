"""What ``bench collect`` does: fill a table, judge it, write it, show it, explain a cell."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from benchmark import __version__
from benchmark.base.errors import UserError, unknown
from benchmark.base.files import make_directory, write_text
from benchmark.base.git import git
from benchmark.base.shipped import code_root
from benchmark.results.collect import Collected
from benchmark.results.explain import explain
from benchmark.results.grid import Grid
from benchmark.results.judged import fill
from benchmark.table.load import load_table
from benchmark.table.selection import Selection
from benchmark.table.spec import Protocol

FORMATS = ("md", "tex", "csv", "json")
_NAMED = 5  # problems that are named; the others are counted


def collect_table(
    name: str,
    chosen: Selection,
    *,
    runs_dir: Path,
    formats: str | None = None,
    protocol: str | None = None,
    also: str | None = None,
    siunitx: bool = False,
    out: Path = Path("results"),
) -> str:
    """Write a table's files and return what is printed.

    A single ``csv`` or ``json`` is returned alone, and no file is written. Raises UserError for
    unknown formats and protocols, and where nothing can be read or written.
    """
    wanted = _formats(formats)
    for given, option in ((protocol, "--protocol"), (also, "--also")):
        _check_protocol(given, option)
    table = load_table(name)
    collected = fill(table, runs_dir, chosen, protocol)
    grid = replace(collected.grid, made_by=_made_by(name, chosen, protocol, also))
    _warn(collected, runs_dir, table.name)
    statistics = list(dict.fromkeys(s for s in (grid.protocol, also) if s is not None))
    renderers = _renderers(grid, statistics, siunitx)
    if wanted in (["csv"], ["json"]):
        return renderers[wanted[0]]()
    make_directory(out)
    written = []
    for kind in wanted:
        path = out / f"{table.name}.{kind}"
        try:
            write_text(path, renderers[kind]())
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error
        written.append(str(path))
    from benchmark.results.terminal import show

    return f"{show(grid, statistics)}\nwritten: {', '.join(written)}\n"


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
    _warn(collected, runs_dir, table.name)
    return explain(table, *wanted, collected, runs_dir)


def _renderers(
    grid: Grid, statistics: Sequence[str], siunitx: bool
) -> dict[str, Callable[[], str]]:
    # Each is imported when it is asked for: LaTeX alone takes longer than a table of numbers.
    def markdown() -> str:
        from benchmark.results.render import markdown

        return markdown.render(grid, statistics=statistics)

    def latex() -> str:
        from benchmark.results.render import latex

        return latex.render(
            grid, ("paper", "side_by_side"), statistics, siunitx=siunitx, document=True
        )

    def csv() -> str:
        from benchmark.results.render import csv

        return csv.render(grid)

    def json() -> str:
        from benchmark.results.render import json

        return json.render(grid)

    return {"md": markdown, "tex": latex, "csv": csv, "json": json}


def _formats(text: str | None) -> list[str]:
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


def _made_by(table: str, chosen: Selection, protocol: str | None, also: str | None) -> str:
    """Return the command that decides what the table holds, and the version that ran it.

    Where runs lie and where files go is left out: the same runs give the same bytes anywhere.
    """
    words = ["bench", "collect", "--table", Path(table).name if "/" in table else table]
    words += ["--protocol", protocol] if protocol else []
    words += ["--also", also] if also else []
    for item in chosen.only:
        words += ["--only", f"{item.key}{'!=' if item.excludes else '='}{item.value}"]
    if chosen.seeds is not None:
        words += ["--seeds", ",".join(map(str, chosen.seeds))]
    return f"{shlex.join(words)} (kd-benchmark {__version__}{_commit()})"


def _commit() -> str:
    """Return the commit of this code where it lies in its repository."""
    found = git(
        code_root(), "describe", "--always", "--dirty=+changes", "--exclude=*", "--abbrev=12"
    )
    return f", commit {found}" if found else ""


def _warn(collected: Collected, runs_dir: Path, table: str) -> None:
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
    for line in lines:
        print(line, file=sys.stderr)
