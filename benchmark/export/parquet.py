"""Runs as one Parquet file: a line a run and epoch, with what the run is. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmark.base.extras import optional
from benchmark.base.files import make_directory
from benchmark.export.exported import ExportedRun
from benchmark.results.frames import write_frame


def check() -> None:
    """Raise UserError where pyarrow is not installed."""
    optional("pyarrow", "parquet", "parquet files")


def write(runs: Iterable[ExportedRun], path: Path) -> Path:
    """Write the file; what a run is stands on each of its lines, beside an epoch's numbers."""
    import pandas as pd

    check()
    lines = [
        {"run": run.key, **run.what, **run.results, "epoch": epoch, **numbers}
        for run in runs
        for epoch, numbers in run.epochs
    ]
    make_directory(path.parent)
    frame = pd.DataFrame(lines)
    for name in frame:  # an option may be a number for one method and a word for another
        kinds = {type(value) for value in frame[name].dropna()}
        if str in kinds and len(kinds) > 1:
            frame[name] = frame[name].map(str, na_action="ignore")
    write_frame(frame, path, "parquet")
    return path
