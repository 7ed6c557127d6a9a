"""bench init."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.options import DEFAULT_RUNS, RunsDir
from benchmark.cli.printing import show

init = typer.Typer(help="Write first versions of files that fit this place.", no_args_is_help=True)
app.add_typer(init, name="init")


@init.callback()
def _group() -> None:
    """Write first versions of files that fit this place."""


@init.command()
def slurm(
    profile: Annotated[
        str | None, typer.Option("--profile", help="Its name; the cluster's own by default.")
    ] = None,
) -> None:
    """Write a profile for this cluster from what sinfo and sacctmgr say."""
    from benchmark.slurm.init_profile import init_profile, profile_path

    path = init_profile(profile_path(profile))
    name = path.stem if path.parent == Path("slurm") / "profiles" else path
    print(f"wrote {path}; look through it, then: bench submit --table T --profile {name}")


@init.command()
def runs(
    runs: RunsDir = DEFAULT_RUNS,
    group: Annotated[
        str | None, typer.Option("--group", help="The group that shares it; its own by default.")
    ] = None,
) -> None:
    """Set a runs directory up for a group: setgid, sticky, with the folders that all use."""
    from benchmark.submission.shared import set_up

    for line in set_up(runs, group):
        show(line)
