"""Results from Python: tables filled from runs, and runs as pandas frames."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.api.tables import Names, add_plugins, choose
from benchmark.results import judged
from benchmark.results.grid import Grid
from benchmark.results.report import Report, make_report
from benchmark.run import directory

if TYPE_CHECKING:
    from pandas import DataFrame


def collect(
    table: str | Path,
    *,
    only: Names = (),
    seeds: Iterable[int] | None = None,
    protocol: str | None = None,
    also: str | None = None,
    runs: str | Path | None = None,
    plugins: Iterable[str | Path] = (),
) -> Report:
    """Fill a table from runs and judge it, as ``bench collect`` does; nothing is written.

    The report's ``grid`` holds every cell; ``text("md")`` renders it, ``write(["tex"], folder)``
    writes files, ``rows()`` and ``epochs()`` are frames of the runs behind it.
    """
    add_plugins(plugins)
    where = Path(runs) if runs is not None else directory.runs_dir()
    chosen = choose(only, seeds)
    return make_report(str(table), chosen, runs_dir=where, protocol=protocol, also=also)


def judged_grid(
    table: str | Path,
    *,
    only: Names = (),
    seeds: Iterable[int] | None = None,
    protocol: str | None = None,
    runs: str | Path | None = None,
) -> Grid:
    """Return a table filled from runs, with verdicts, claims and ranks: ``collect(...).grid``."""
    where = Path(runs) if runs is not None else directory.runs_dir()
    return judged.judged_grid(str(table), where, choose(only, seeds), protocol)


def to_frame(
    runs: str | Path | None = None, *, table: str | Path | None = None, epochs: bool = False
) -> DataFrame:
    """Return runs as a pandas frame: one row a run, or with ``epochs`` one row a run and epoch.

    All runs of a directory, or those that stand in a table: then ``row`` and ``column`` say
    where, and a run that stands in two places has two rows.
    """
    from benchmark.results.frames import epochs_frame, runs_frame

    where = Path(runs) if runs is not None else directory.runs_dir()
    if table is not None:
        report = make_report(str(table), runs_dir=where)
        return report.epochs() if epochs else report.rows()
    frame = runs_frame(where)
    return epochs_frame(where, frame["run"]) if epochs else frame
