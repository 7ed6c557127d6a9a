"""bench doctor."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.options import DEFAULT_DATA, DEFAULT_RUNS, DataDir, RunsDir
from benchmark.cli.printing import show


@app.command()
def doctor(
    runs: RunsDir = DEFAULT_RUNS,
    data: DataDir = DEFAULT_DATA,
    speed: Annotated[
        bool | None,
        typer.Option(
            "--speed/--no-speed",
            help="Measure how fast the CPU trains in either precision; by default once.",
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="Look at a compute node too, as this profile asks for one."),
    ] = None,
) -> None:
    """Say what this machine has: packages, readers, devices, Slurm, datasets, teachers, speed."""
    from benchmark.monitor.doctor import examine

    findings = examine(runs, data, speed, profile)
    for finding in findings:
        show(finding.line())
    raise typer.Exit(1 if any(finding.broken for finding in findings) else 0)
