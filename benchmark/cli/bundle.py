"""bench bundle, audit."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
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
    TableName,
    add_plugins,
    selection,
)


class HowMany(StrEnum):
    """Of how many runs."""

    NONE = "none"
    ONE = "one"
    ALL = "all"


@app.command()
def bundle(
    table: TableName,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A .tar file, or a new folder.", show_default="TABLE.tar"),
    ] = None,
    checkpoints: Annotated[
        HowMany,
        typer.Option(
            "--checkpoints", help="Kept checkpoints: of one run of each row, of all, or none."
        ),
    ] = HowMany.ONE,
    figures: Annotated[
        list[str] | None,
        typer.Option("--figures", help="A kind of figure to draw into the report, repeatable."),
    ] = None,
    only: Only = None,
    seeds: Seeds = None,
    plugin: Plugins = None,
    runs: RunsDir = DEFAULT_RUNS,
    data: DataDir = DEFAULT_DATA,
) -> None:
    """Write what a paper's artifact needs of a table: runs, results, report, digests, commands."""
    from benchmark.base.log import say
    from benchmark.base.words import count
    from benchmark.export.bundle import write_bundle

    add_plugins(plugin)
    chosen = selection(only, seeds, None)
    where = out or Path(f"{Path(table).stem}.tar")
    done = write_bundle(table, chosen, runs, data, where, checkpoints.value, figures or ())
    say(*done.notes)
    print(f"written: {done.path}, {count(done.runs, 'run')}, {done.size / 1e6:,.1f} MB")
    print(f"{done.digest} is its manifest's digest; print it where the bundle is cited")


@app.command()
def audit(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle: a file or a folder.")],
    replay: Annotated[
        HowMany,
        typer.Option("--replay", help="Train an epoch again: of one run, of all, or of none."),
    ] = HowMany.ONE,
    digest: Annotated[
        str | None, typer.Option("--digest", help="Its manifest's digest, as it was printed.")
    ] = None,
    plugin: Plugins = None,
    data: DataDir = DEFAULT_DATA,
) -> None:
    """Check a bundle, with data at hand its accuracies and an epoch too; nothing of it is run.

    Exit code 1: something is not as it says, 3: something could not be checked, 0: all was.
    """
    from benchmark.cli.printing import show
    from benchmark.export.audit import audit as checks
    from benchmark.export.audit import exit_code

    add_plugins(plugin)
    found = []
    for check in checks(path, data, replay.value, digest):
        found.append(check)
        show(f"{check.finding:12} {check.name}: {check.text}")
    raise typer.Exit(exit_code(found))
