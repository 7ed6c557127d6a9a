"""What ``bench export`` does with a table: its runs, in the forms that were asked for.

Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmark.base.words import count
from benchmark.export import parquet, tensorboard, wandb
from benchmark.export.exported import exported_runs
from benchmark.results.report import make_report
from benchmark.table.selection import Selection


@dataclass(frozen=True)
class Forms:
    """Where each form goes, None for those that were not asked for."""

    tensorboard: Path | None = None
    wandb: Path | None = None
    parquet: Path | None = None


def export_table(
    name: str, chosen: Selection, runs_dir: Path, wanted: Forms
) -> tuple[list[str], tuple[str, ...]]:
    """Write the runs of a table, and return a line a form, and what was not counted.

    Raises UserError for an unknown table, without runs, where a form's library is not installed,
    and where a file cannot be written.
    """
    forms = (
        (wanted.tensorboard, tensorboard.check),
        (wanted.wandb, wandb.check),
        (wanted.parquet, parquet.check),
    )
    for place, check in forms:
        if place is not None:
            check()
    report = make_report(name, chosen, runs_dir=runs_dir)
    runs = exported_runs(report)
    lines = []
    if wanted.tensorboard is not None:
        files = tensorboard.write(runs, wanted.tensorboard)
        lines.append(f"{count(len(files), 'run')} for tensorboard --logdir {wanted.tensorboard}")
    if wanted.wandb is not None:
        folders = wandb.write(runs, wanted.wandb, report.grid.name)
        pattern = wanted.wandb / "wandb/offline-run-*"
        lines.append(f"{count(len(folders), 'run')} for wandb sync {pattern}")
    if wanted.parquet is not None:
        lines.append(str(parquet.write(runs, wanted.parquet)))
    return lines, report.notes
