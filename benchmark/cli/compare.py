"""bench compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.app import app


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="A runs directory.")],
    b: Annotated[Path, typer.Argument(help="Another one.")],
    metric: Annotated[str, typer.Option("--metric", help="top1 or top5.")] = "top1",
    protocol: Annotated[
        str,
        typer.Option("--protocol", help="last, best, median_of_last_5, mean_of_last_5."),
    ] = "last",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, alone.")] = False,
) -> None:
    """Compare two sets of runs; exit code 1 when a cell changed beyond noise or is gone from B."""
    from benchmark.results.compare import compare as run
    from benchmark.results.compare import comparison_to_json, describe_comparison

    found = run(a, b, metric, protocol)
    if as_json:
        print(json.dumps(comparison_to_json(found), indent=1, allow_nan=False))
    else:
        print(describe_comparison(found))
    raise typer.Exit(1 if found.changed else 0)
