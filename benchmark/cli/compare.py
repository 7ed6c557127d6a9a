"""bench compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.options import AsJson, Plugins, add_plugins
from benchmark.cli.printing import show

CANNOT_TELL = 3


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="A runs directory.")],
    b: Annotated[Path, typer.Argument(help="Another one.")],
    metric: Annotated[str, typer.Option("--metric", help="top1 or top5.")] = "top1",
    protocol: Annotated[
        str,
        typer.Option("--protocol", help="last, best, median_of_last_5, mean_of_last_5."),
    ] = "last",
    margin: Annotated[
        float,
        typer.Option("--margin", min=0.01, help="By how many points B may be worse at most."),
    ] = 0.5,
    table: Annotated[
        str | None,
        typer.Option(
            "--table",
            "-t",
            help="Match cells by this table's rows and columns, whatever their options.",
        ),
    ] = None,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Compare two sets of runs; exit code 1: something changed beyond noise or is gone from B,
    3: nothing did, but some cell may be worse by more than the margin, 0: none may."""
    from benchmark.results.compare import compare as run
    from benchmark.results.compare import comparison_to_json, describe_comparison

    add_plugins(plugin)
    found = run(a, b, metric, protocol, margin, table)
    if as_json:
        print(json.dumps(comparison_to_json(found), indent=1, allow_nan=False))
    else:
        show(describe_comparison(found))
    raise typer.Exit(1 if found.changed else CANNOT_TELL if found.unclear else 0)
