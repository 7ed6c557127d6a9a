"""bench tables, bench check, bench plan."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.options import (
    DEFAULT_DATA,
    DEFAULT_RUNS,
    AsJson,
    DataDir,
    DataDirOrProfiles,
    Only,
    OwnTeachers,
    PackSize,
    Plugins,
    RunsDirOrProfiles,
    Seeds,
    Sets,
    TableName,
    add_plugins,
    context,
    plan_for,
    selection,
)
from benchmark.cli.printing import show
from benchmark.planning.simulate import START_SECONDS


@app.command()
def tables() -> None:
    """List the tables."""
    from benchmark.planning.text import tables_overview

    show(tables_overview())


@app.command()
def check(
    table: Annotated[
        str | None, typer.Option("--table", "-t", help="One table; all of them by default.")
    ] = None,
    plugin: Plugins = None,
    data: DataDir = DEFAULT_DATA,
) -> None:
    """Check table files: names, options, recipes, published values."""
    from benchmark.planning.text import check_tables

    add_plugins(plugin)
    for line in check_tables(table, context(data)):
        show(line)


@app.command()
def plan(
    table: TableName,
    only: Only = None,
    seeds: Seeds = None,
    sets: Sets = None,
    teacher: OwnTeachers = None,
    plugin: Plugins = None,
    pack: PackSize = "",
    simulate: Annotated[
        str | None,
        typer.Option("--simulate", help="A profile: predict when all would be done with it."),
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option("--slots", min=1, help="Simulated tasks at a time; the profile's by default."),
    ] = None,
    preemptions: Annotated[
        float, typer.Option("--preemptions", min=0.0, help="Simulated, of one task an hour.")
    ] = 0.0,
    start_seconds: Annotated[
        float, typer.Option("--start-seconds", min=0.0, help="Simulated, of every start of a task.")
    ] = START_SECONDS,
    stale: Annotated[
        bool, typer.Option("--stale", help="List the runs that no longer count, and why.")
    ] = False,
    as_json: AsJson = False,
    runs: RunsDirOrProfiles = None,
    data: DataDirOrProfiles = None,
) -> None:
    """Show what a table expands to: cells, runs, packs, and what is there already."""
    from benchmark.base.errors import UserError
    from benchmark.planning.pack_size import parse_pack_size
    from benchmark.planning.text import describe_plan, plan_to_json

    if simulate is not None and (as_json or stale):
        raise UserError("--simulate prints text and does not go with --json or --stale")
    if simulate is None and (slots or preemptions or start_seconds != START_SECONDS):
        raise UserError("--slots, --preemptions and --start-seconds go with --simulate PROFILE")
    if simulate is not None:
        from benchmark.submission.executors import directories, executor_for
        from benchmark.submission.simulation import describe_simulation

        size = parse_pack_size(pack)
        executor = executor_for("slurm", simulate)
        where = directories(executor, runs, data)
        expanded = plan_for(
            table, selection(only, seeds, sets, teacher), where.data, plugin, executor.device
        )
        rates = (slots, preemptions, start_seconds)
        show(describe_simulation(expanded, where.runs, size, simulate, *rates))
        return
    runs, data = runs or DEFAULT_RUNS, data or DEFAULT_DATA
    if stale:
        from benchmark.results.stale import describe_stale

        add_plugins(plugin)
        show(describe_stale(table, runs, as_json))
        return
    chosen = selection(only, seeds, sets, teacher)
    expanded = plan_for(table, chosen, data, plugin)
    size = parse_pack_size(pack)
    from benchmark.results.foresee import foresee
    from benchmark.results.foreseen import forecast_lines, forecast_to_json
    from benchmark.submission.ends import noted_failures
    from benchmark.submission.sent import busy_keys, only_shown

    with only_shown():
        busy, noted = busy_keys(runs), noted_failures(runs)

    foreseen = foresee(expanded.table, len(chosen.seeds or expanded.table.seeds))
    if as_json:
        values = {
            **plan_to_json(expanded, runs, size, data, busy),
            "if_the_paper_is_right": forecast_to_json(foreseen),
        }
        print(json.dumps(values, indent=1, allow_nan=False))
    else:
        told = describe_plan(expanded, runs, size, data, busy, noted)
        show("\n".join([told, *forecast_lines(foreseen)]))
