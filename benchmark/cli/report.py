"""bench report."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.options import DEFAULT_DATA, DEFAULT_RUNS, DataDir, Plugins, RunsDir, add_plugins


@app.command()
def report(
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table", "-t", help="A table to show, repeatable.", show_default="all that have runs"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where the pages go.", show_default="report")
    ] = None,
    figures: Annotated[
        list[str] | None,
        typer.Option("--figures", help="A kind of figure to draw into tables, repeatable."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay, and write it anew as runs end.")
    ] = False,
    every: Annotated[
        float, typer.Option("--every", min=1.0, help="Seconds between looks with --watch.")
    ] = 10.0,
    show: Annotated[
        bool, typer.Option("--open", help="Open it in a browser, if this machine has a screen.")
    ] = False,
    plugin: Plugins = None,
    runs: RunsDir = DEFAULT_RUNS,
    data: DataDir = DEFAULT_DATA,
) -> None:
    """Write a report of tables and runs: pages that open in a browser, without any server."""
    from benchmark.base.log import say
    from benchmark.base.words import count
    from benchmark.site import watch as watching
    from benchmark.site.build import SiteBuilder

    add_plugins(plugin)
    where = out or Path("report")
    builder = SiteBuilder(where, runs, data, table or (), figures or (), follow=watch)
    if watch:
        print(f"open {(where / 'index.html').absolute()} in a browser; Ctrl-C ends")
        watching.watch(builder, every)
    site = builder.write()
    say(*site.notes)
    told = f"{count(site.tables, 'table')} and {count(site.runs, 'run')}"
    print(f"written: {told}; open {site.index.absolute()}")
    if show and _has_screen():
        webbrowser.open(site.index.absolute().as_uri())


def _has_screen() -> bool:
    """Tell whether a browser has a window to open; one for text would take the terminal."""
    screens = ("DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform == "darwin" or any(os.environ.get(name) for name in screens)
