"""Flags that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from benchmark.planning.matrix import Context, Plan
    from benchmark.table.selection import Selection

TableName = Annotated[
    str, typer.Option("--table", "-t", help="A table's name or the path of its YAML file.")
]
RunsDir = Annotated[
    Path,
    typer.Option("--runs", envvar="BENCH_RUNS", help="Where runs lie."),
]
DataDir = Annotated[
    Path,
    typer.Option("--data", envvar="BENCH_DATA", help="Where datasets lie."),
]
# Where a profile may name the directory too.
RunsDirOrProfiles = Annotated[
    Path | None,
    typer.Option(
        "--runs",
        envvar="BENCH_RUNS",
        help="Where runs lie.",
        show_default="the profile's, else checkpoints/runs",
    ),
]
DataDirOrProfiles = Annotated[
    Path | None,
    typer.Option(
        "--data",
        envvar="BENCH_DATA",
        help="Where datasets lie.",
        show_default="the profile's, else checkpoints/data",
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option("--cluster", help="slurm, local or inline; slurm if sbatch is on PATH."),
]
ProfileName = Annotated[
    str | None, typer.Option("--profile", help="A profile in slurm/profiles/, or its path.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and leave.")]
PackSize = Annotated[
    str, typer.Option("--pack", help="Runs a process trains side by side, or auto.")
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        help="KEY=VALUE or KEY!=VALUE; keys: row, column, teacher, student, method, uses, seed.",
    ),
]
Seeds = Annotated[str | None, typer.Option("--seeds", help="Seeds, as in 0-4 or 0,2.")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="recipe=NAME, recipe.FIELD=VALUE, student.recipe.FIELD=VALUE or"
        " method.NAME.OPTION=VALUE; A,B,C is a sweep.",
    ),
]
Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="A file that defines a method or networks of your own."),
]
OwnTeachers = Annotated[
    list[str] | None,
    typer.Option(
        "--teacher",
        help="NETWORK=FILE: a teacher of your own, or a tag such as timm:resnet18.a1_in1k.",
    ),
]
Protocol = Annotated[
    str | None,
    typer.Option("--protocol", help="last, best, median_of_last_5, mean_of_last_5."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, alone.")]
DEFAULT_RUNS = Path("checkpoints/runs")
DEFAULT_DATA = Path("checkpoints/data")


def selection(
    only: list[str] | None,
    seeds: str | None,
    sets: list[str] | None,
    teachers: list[str] | None = None,
) -> Selection:
    """Read --only, --seeds, --set and --teacher."""
    from benchmark.table.selection import parse_selection

    return parse_selection(only or (), seeds, sets or (), teachers or ())


def plan_for(
    table: str,
    chosen: Selection,
    data: Path,
    plugins: list[Path] | None,
    device: str | None = None,
) -> Plan:
    """Load a table and expand it."""
    from benchmark.planning.matrix import make_plan
    from benchmark.table.load import load_table

    add_plugins(plugins)
    return make_plan(load_table(table), chosen, context(data, device))


def context(data: Path, device: str | None = None) -> Context:
    """Return the context of planning: the data directory and what `device: auto` means."""
    from benchmark.base.machine import default_device
    from benchmark.planning.matrix import Context

    return Context(data_dir=data, device=device or default_device())


def add_plugins(plugins: list[Path] | None) -> None:
    """Register the methods and networks of --plugin."""
    from benchmark.methods.catalog import add_plugin

    for path in plugins or ():
        add_plugin(path)
