"""What ``bench export`` does with a table: its runs, in the forms that were asked for.

Imports no torch, unless networks are written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.words import count
from benchmark.export import onnx, parquet, tensorboard, wandb
from benchmark.export.exported import ExportedRun, exported_runs
from benchmark.results.report import make_report
from benchmark.run.directory import RunDir
from benchmark.run.state import RunState
from benchmark.table.selection import Selection


@dataclass(frozen=True)
class Forms:
    """Where each form goes, None for those that were not asked for."""

    tensorboard: Path | None = None
    wandb: Path | None = None
    parquet: Path | None = None
    onnx: Path | None = None


@dataclass(frozen=True)
class Exports:
    """What was written, a line a form; ``notes``: what was not counted; ``failed``: in what."""

    lines: tuple[str, ...]
    notes: tuple[str, ...]
    failed: tuple[str, ...]


def export_table(name: str, chosen: Selection, runs_dir: Path, wanted: Forms) -> Exports:
    """Write the runs of a table.

    Raises UserError for an unknown table, without runs, if a form's library is not installed,
    and if a file cannot be written. A network that cannot be written is not its neighbours'.
    """
    forms = (
        (wanted.tensorboard, tensorboard.check),
        (wanted.wandb, wandb.check),
        (wanted.parquet, parquet.check),
        (wanted.onnx, onnx.check),
    )
    for place, check in forms:
        if place is not None:
            check()
    report = make_report(name, chosen, runs_dir=runs_dir)
    runs = exported_runs(report)
    lines: list[str] = []
    failed: list[str] = []
    if wanted.tensorboard is not None:
        files = tensorboard.write(runs, wanted.tensorboard)
        lines.append(f"{count(len(files), 'run')} for tensorboard --logdir {wanted.tensorboard}")
    if wanted.wandb is not None:
        folders = wandb.write(runs, wanted.wandb, report.grid.name)
        pattern = wanted.wandb / "wandb/offline-run-*"
        lines.append(f"{count(len(folders), 'run')} for wandb sync {pattern}")
    if wanted.parquet is not None:
        lines.append(str(parquet.write(runs, wanted.parquet)))
    if wanted.onnx is not None:
        number, failed = _networks(runs, runs_dir, wanted.onnx)
        lines.append(f"{count(number, 'network')} in {wanted.onnx}")
    return Exports(tuple(lines), report.notes, tuple(failed))


def export_run(rundir: RunDir, path: Path) -> str:
    """Write the network of a run as ONNX; see :func:`benchmark.export.onnx.export_onnx`."""
    apart = onnx.export_onnx(rundir, path)
    return f"{path}, by onnxruntime within {apart:.1g} of the largest logit"


def _networks(runs: Iterable[ExportedRun], runs_dir: Path, folder: Path) -> tuple[int, list[str]]:
    done = [run for run in runs if run.what["state"] == str(RunState.DONE)]
    failed = []
    for run in done:
        try:
            onnx.export_onnx(RunDir(runs_dir, run.key), folder / f"{run.key}.onnx")
        except UserError as error:
            failed.append(str(error))
    return len(done) - len(failed), failed
