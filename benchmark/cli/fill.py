"""bench teachers fill."""

from __future__ import annotations

from typing import Annotated

import typer

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
from benchmark.cli.teachers import teachers_app


@teachers_app.command()
def fill(
    table: TableName,
    cluster: Cluster = None,
    profile: ProfileName = None,
    only: Only = None,
    seeds: Seeds = None,
    pack: PackSize = "",
    sets: Sets = None,
    teacher: OwnTeachers = None,
    plugin: Plugins = None,
    dry_run: DryRun = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the answers are kept.")] = False,
    runs: RunsDirOrProfiles = None,
    data: DataDirOrProfiles = None,
) -> None:
    """Ask a table's teachers now what its students will ask, where enough is asked again.

    A job for each teacher; `bench submit --fill` sends it together with students that wait for it.
    """
    from benchmark.base.log import say
    from benchmark.cli.words.submit import filling
    from benchmark.planning.pack_size import parse_pack_size
    from benchmark.submission.executors import directories, executor_for
    from benchmark.submission.hand_over import prepare_plan

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
        fill="alone",
    )
    say(*filling(found))
    if dry_run:
        if script := found.ready.prepared.script():
            print(script)
        return
    raise typer.Exit(found.ready.start(wait))
