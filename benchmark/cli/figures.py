"""bench figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.options import (
    DEFAULT_DATA,
    DEFAULT_RUNS,
    DataDir,
    Only,
    OwnTeachers,
    Plugins,
    Protocol,
    RunsDir,
    Seeds,
    TableName,
    add_plugins,
    selection,
)

USUAL = ("curves", "differences", "forest", "cost")


@app.command()
def figures(
    table: TableName,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            "-k",
            help="What to draw, repeatable; all draws every kind, list names them.",
            show_default=", ".join(USUAL),
        ),
    ] = None,
    images: Annotated[
        int, typer.Option("--images", min=1, help="Test images where networks are looked into.")
    ] = 1000,
    protocol: Protocol = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where the files go.", show_default="figures")
    ] = None,
    teacher: OwnTeachers = None,
    only: Only = None,
    seeds: Seeds = None,
    plugin: Plugins = None,
    runs: RunsDir = DEFAULT_RUNS,
    data: DataDir = DEFAULT_DATA,
) -> None:
    """Draw figures of a table from its runs: PDF, PNG, the data as CSV, and their origin."""
    from benchmark.figures.make import figure_kinds, make_figures

    names = kind or USUAL
    if "list" in names:
        for name, shows in figure_kinds().items():
            print(f"{name:18} {shows}")
        return
    add_plugins(plugin)
    saved = make_figures(
        table,
        tuple(figure_kinds()) if "all" in names else names,
        selection(only, seeds, None, teacher),
        runs_dir=runs,
        data_dir=data,
        out=out or Path("figures"),
        images=images,
        protocol=protocol,
    )
    for one in saved:
        print(f"written: {one.pdf}, and as png, csv, json")
