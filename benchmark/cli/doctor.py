"""bench doctor."""

from __future__ import annotations

import typer

from benchmark.cli.app import app
from benchmark.cli.options import DEFAULT_DATA, DEFAULT_RUNS, DataDir, RunsDir
from benchmark.cli.printing import show


@app.command()
def doctor(runs: RunsDir = DEFAULT_RUNS, data: DataDir = DEFAULT_DATA) -> None:
    """Say what this machine has: packages, readers, devices, Slurm, datasets, teachers."""
    from benchmark.monitor.doctor import examine

    findings = examine(runs, data)
    for finding in findings:
        show(finding.line())
    raise typer.Exit(1 if any(finding.broken for finding in findings) else 0)
