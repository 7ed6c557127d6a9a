"""bench submit."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.options import (
    DEFAULT_DATA,
    DEFAULT_RUNS,
    DataDir,
    Only,
    Plugins,
    RunsDir,
    Seeds,
    Sets,
    TableName,
    plan_for,
    selection,
)


@app.command()
def submit(
    table: TableName,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", help="slurm, local or inline; slurm where sbatch is on PATH."),
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", help="A profile in slurm/profiles/, or its path.")
    ] = None,
    only: Only = None,
    seeds: Seeds = None,
    pack: Annotated[
        str, typer.Option("--pack", help="Runs a process trains side by side, or auto.")
    ] = "",
    sets: Sets = None,
    plugin: Plugins = None,
    reader: Annotated[
        str | None, typer.Option("--reader", help="resident or ffcv; the pixels are the same.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, and leave.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the runs have ended.")] = False,
    runs: RunsDir = DEFAULT_RUNS,
    data: DataDir = DEFAULT_DATA,
) -> None:
    """Train what is missing of a table."""
    from benchmark.pack_size import parse_pack_size
    from benchmark.planning import directories, executor_for, submit_plan

    chosen = selection(only, seeds, sets)
    executor, device = executor_for(cluster, profile)
    runs, data = directories(
        executor,
        None if runs == DEFAULT_RUNS else runs,
        None if data == DEFAULT_DATA else data,
    )
    expanded = plan_for(table, chosen, data, plugin, device)
    code = submit_plan(
        expanded,
        executor,
        runs_dir=runs,
        data_dir=data,
        pack_size=parse_pack_size(pack),
        plugins=plugin or [],
        reader=reader,
        dry_run=dry_run,
        wait=wait,
    )
    raise typer.Exit(code)
