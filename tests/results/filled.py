"""Runs directories for tests: made-up runs of a table's plan, and what collection makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from benchmark.matrix import Context, Plan, make_plan
from benchmark.results.collect import Collected, collect
from benchmark.results.grid import GridCell
from benchmark.results.index import RunIndex
from benchmark.rundir import RunDir
from benchmark.runs import Run
from benchmark.selection import parse_selection
from benchmark.tables import load_table
from benchmarks.synthetic_runs import write_run

COLUMN = "resnet56-resnet20"
NO_DATA = Path("/nonexistent")


@cache
def plan(
    table: str = "cifar100",
    only: tuple[str, ...] = (f"column={COLUMN}",),
    seeds: str | None = None,
    sets: tuple[str, ...] = (),
    device: str = "cuda",
) -> Plan:
    """The plan of a table by name or path, as on a machine without data and checkpoints."""
    return make_plan(
        load_table(table), parse_selection(only, seeds, sets), Context(NO_DATA, device)
    )


def runs_of(planned: Plan, row: str) -> list[Run]:
    """The runs of a row, without the teachers they need."""
    slots = [slot for slot in planned.slots if slot.row.name == row]
    return [run for slot in slots for variant in slot.variants for run in variant.runs]


def write(runs_dir: Path, runs: Iterable[Run], value: float = 70.0, **how: Any) -> None:
    """Write runs that all have one accuracy (by last, mean and median; best is 0.05 above)."""
    for run in runs:
        if not RunDir(runs_dir, run.key).path.exists():
            write_run(runs_dir, run, value, spread=0.0, **how)


def collected(
    runs_dir: Path,
    table: str = "cifar100",
    only: Iterable[str] = (),
    seeds: str | None = None,
    **how: Any,
) -> Collected:
    """The table, not yet judged, from an index that is up to date."""
    index = RunIndex(runs_dir)
    index.refresh()
    return collect(load_table(table), index, parse_selection(only, seeds), **how)


def cell(found: Collected, row: str, column: str = COLUMN, metric: str = "top1") -> GridCell:
    there = found.grid.cell(row, column, metric)
    assert there is not None
    return there


def edit(path: Path, **changes: Any) -> None:
    """Change fields of a JSON file in place."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
