"""bench status, bench metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark.cli.app import app
from benchmark.cli.options import (
    DEFAULT_DATA,
    DEFAULT_RUNS,
    AsJson,
    DataDir,
    Plugins,
    RunsDir,
    add_plugins,
)


@app.command()
def status(
    table: Annotated[
        str | None, typer.Option("--table", "-t", help="One table, with what is missing of it.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay, and refresh twice a minute at most.")
    ] = False,
    as_json: AsJson = False,
    all_users: Annotated[
        bool,
        typer.Option("--all-users", help="Everybody's jobs, from their names and comments."),
    ] = False,
    plugin: Plugins = None,
    runs: RunsDir = DEFAULT_RUNS,
    data: DataDir = DEFAULT_DATA,
) -> None:
    """Show how tables stand: cells and runs by state, hours, speed, failures, stuck runs."""
    from benchmark.cli.watching import repeat, width
    from benchmark.cli.words import status as words
    from benchmark.monitor import everybody, values
    from benchmark.monitor.status import read_status, refresh_seconds

    add_plugins(plugin)

    def lines(max_age: float) -> list[str]:
        if all_users:
            return words.everybody(*everybody.read_everybody(table, max_age))
        return words.status(read_status(runs, data, table, max_age), width())

    def as_values() -> dict[str, Any]:
        if all_users:
            return everybody.to_json(*everybody.read_everybody(table))
        return values.to_json(read_status(runs, data, table))

    repeat(lines, as_values, watch=watch, as_json=as_json, every=refresh_seconds())


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
    from benchmark.monitor.status import read_status, refresh_seconds

    found = read_status(runs, data, max_age=refresh_seconds())
    write_metrics(textfile, [table.metrics for table in found.tables], found.taken)
