"""bench export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.options import (
    DEFAULT_RUNS,
    Only,
    Plugins,
    RunsDir,
    Seeds,
    add_plugins,
    selection,
)


@app.command()
def export(
    table: Annotated[
        str | None,
        typer.Option("--table", "-t", help="A table's name or the path of its YAML file."),
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", help="A folder for TensorBoard's event files.")
    ] = None,
    wandb: Annotated[
        Path | None,
        typer.Option("--wandb-offline", help="A folder for offline runs, sent by `wandb sync`."),
    ] = None,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", help="A file with a line a run and epoch.")
    ] = None,
    only: Only = None,
    seeds: Seeds = None,
    plugin: Plugins = None,
    runs: RunsDir = DEFAULT_RUNS,
) -> None:
    """Write a table's runs for other tools: curves by epoch, with what each run is."""
    from benchmark.base.errors import UserError
    from benchmark.base.log import say
    from benchmark.export.table import Forms, export_table

    add_plugins(plugin)
    wanted = Forms(tensorboard, wandb, parquet)
    if table is None or wanted == Forms():
        raise UserError(
            "say what to export: --table T with --tensorboard DIR, --wandb-offline DIR or"
            " --parquet FILE"
        )
    lines, notes = export_table(table, selection(only, seeds, None), runs, wanted)
    say(*notes)
    for line in lines:
        print(f"written: {line}")
