"""bench status, bench metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.options import DEFAULT_DATA, DEFAULT_RUNS, DataDir, Plugins, RunsDir, add_plugins


@app.command()
def status(
    table: Annotated[
        str | None, typer.Option("--table", "-t", help="One table, with what is missing of it.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay, and refresh twice a minute at most.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, alone.")] = False,
    all_users: Annotated[
        bool,
        typer.Option("--all-users", help="Everybody's jobs, from their names and comments."),
    ] = False,
    plugin: Plugins = None,
    runs: RunsDir = DEFAULT_RUNS,
    data: DataDir = DEFAULT_DATA,
) -> None:
    """Show how tables stand: cells and runs by state, hours, speed, failures, stuck runs."""
    from benchmark.monitor.everybody import show_everybody
    from benchmark.monitor.watch import show_status

    add_plugins(plugin)
    if all_users:
        show_everybody(table, watch=watch, as_json=as_json)
        return
    show_status(runs, data, table, watch=watch, as_json=as_json)


@app.command()
def metrics(
    textfile: Annotated[
        Path, typer.Option("--textfile", help="The file that Prometheus' node_exporter reads.")
    ],
    runs: RunsDir = DEFAULT_RUNS,
    data: DataDir = DEFAULT_DATA,
) -> None:
    """Write cells by state, GPU-hours, speed and heartbeats for Prometheus."""
    from benchmark.monitor.metrics import write_metrics
    from benchmark.monitor.watch import read_status, refresh_seconds

    found = read_status(runs, data, max_age=refresh_seconds())
    write_metrics(textfile, [table.metrics for table in found.tables], found.taken)
