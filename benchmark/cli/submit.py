"""bench submit."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.options import (
    Cluster,
    DataDirOrProfiles,
    DryRun,
    Only,
    OwnTeachers,
    PackSize,
    Plugins,
    ProfileName,
    RunsDirOrProfiles,
    Seeds,
    Sets,
    TableName,
    plan_for,
    selection,
)


@app.command()
def submit(
    table: TableName,
    cluster: Cluster = None,
    profile: ProfileName = None,
    only: Only = None,
    seeds: Seeds = None,
    pack: PackSize = "",
    sets: Sets = None,
    teacher: OwnTeachers = None,
    plugin: Plugins = None,
    reader: Annotated[
        str | None, typer.Option("--reader", help="resident or ffcv; the pixels are the same.")
    ] = None,
    fill: Annotated[
        bool,
        typer.Option("--fill", help="Ask teachers first what several packs will ask them again."),
    ] = False,
    dry_run: DryRun = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the runs have ended.")] = False,
    runs: RunsDirOrProfiles = None,
    data: DataDirOrProfiles = None,
) -> None:
    """Train what is missing of a table."""
    from benchmark.base.log import say
    from benchmark.cli.words.submit import standing
    from benchmark.planning.pack_size import parse_pack_size
    from benchmark.submission.executors import directories, executor_for
    from benchmark.submission.hand_over import prepare_plan
    from benchmark.submission.together import followed

    if cluster == "inline" and (code := followed(dry_run)) is not None:
        raise typer.Exit(code)
    chosen = selection(only, seeds, sets, teacher)
    executor = executor_for(cluster, profile, dry_run)
    where = directories(executor, runs, data)
    found = prepare_plan(
        plan_for(table, chosen, where.data, plugin, executor.device),
        executor,
        runs_dir=where.runs,
        data_dir=where.data,
        pack_size=parse_pack_size(pack),
        plugins=plugin or [],
        reader=reader,
        fill="ahead" if fill else None,
    )
    say(*standing(found))
    if dry_run:
        if script := found.ready.prepared.script():
            print(script)
        return
    raise typer.Exit(found.start(wait))
