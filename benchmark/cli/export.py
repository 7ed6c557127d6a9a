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
    run: Annotated[
        str | None, typer.Argument(help="A run's key, or its folder; goes with --onnx.")
    ] = None,
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
    onnx: Annotated[
        Path | None,
        typer.Option("--onnx", help="A run's network as a file, or a table's in a folder."),
    ] = None,
    only: Only = None,
    seeds: Seeds = None,
    plugin: Plugins = None,
    runs: RunsDir = DEFAULT_RUNS,
) -> None:
    """Write runs for other tools: a table's curves by epoch, and trained networks.

    Exit code 1 if some network could not be written.
    """
    from benchmark.base.errors import UserError
    from benchmark.base.log import say
    from benchmark.export.table import Forms, export_run, export_table
    from benchmark.run.directory import find_run

    add_plugins(plugin)
    wanted = Forms(tensorboard, wandb, parquet, onnx)
    if run is not None and table is None and onnx is not None and wanted == Forms(onnx=onnx):
        print(f"written: {export_run(find_run(run, runs), onnx)}")
        return
    if run is not None or table is None or wanted == Forms():
        raise UserError(
            "say what to export: RUN --onnx FILE, or --table T with --tensorboard DIR,"
            " --wandb-offline DIR, --parquet FILE or --onnx DIR"
        )
    done = export_table(table, selection(only, seeds, None), runs, wanted)
    say(*done.notes, *done.failed)
    for line in done.lines:
        print(f"written: {line}")
    raise typer.Exit(int(bool(done.failed)))
