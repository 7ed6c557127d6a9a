"""bench methods, bench check-method."""

from __future__ import annotations

import json
from functools import partial
from typing import Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.options import AsJson, Plugins, add_plugins


@app.command()
def methods(
    names: Annotated[
        list[str] | None, typer.Argument(help="These methods alone; all of them by default.")
    ] = None,
    table: Annotated[
        str, typer.Option("--table", "-t", help="Whose pairs to count parameters for.")
    ] = "cifar100",
    plugin: Plugins = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, alone: parameters and step costs too.")
    ] = False,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="With --json: time every method now (minutes)."),
    ] = False,
) -> None:
    """List the methods with their options; with --json also what they cost."""
    from benchmark.base.errors import UserError
    from benchmark.methods.overview import chosen, overview_text

    if measure and not as_json:
        raise UserError("--measure needs --json: only the JSON holds costs")
    add_plugins(plugin)
    infos = chosen(names or [])
    if not as_json:
        print(overview_text(infos))
        return
    from benchmark.conformance.listing import listing

    print(json.dumps(listing(infos, table, measure=measure), indent=1, allow_nan=False))


@app.command("check-method")
def check_method(
    name: Annotated[str, typer.Argument(help="A method, or with --plugin one of your own.")],
    plugin: Plugins = None,
    pair: Annotated[
        str | None,
        typer.Option("--pair", metavar="TEACHER,STUDENT", help="Check on this pair alone."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small pair alone, and fewer interruptions.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check that a method holds what the training loop relies on; exit code 1 if it does not."""
    from benchmark.conformance.pairs import parse_pair
    from benchmark.conformance.suite import check_method as check

    add_plugins(plugin)
    wanted = parse_pair(pair) if pair else None
    report = check(
        name, wanted, quick, (lambda text: None) if as_json else partial(print, flush=True)
    )
    if as_json:
        print(json.dumps(report.to_json(), indent=1, allow_nan=False))
    raise typer.Exit(0 if report.passed else 1)
