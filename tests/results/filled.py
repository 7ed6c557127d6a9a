"""Runs directories for tests: made-up runs of a table's plan, and what collection makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from benchmark.planning.matrix import Context, Plan, make_plan
from benchmark.results.collect import Collected, collect
from benchmark.results.grid import GridCell
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.run.index import RunIndex
from benchmark.table.load import load_table
from benchmark.table.selection import parse_selection
from perf.synthetic_runs import write_run

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


def refreshed(root: Path) -> RunIndex:
    index = RunIndex(root)
    index.refresh()
    return index


def states(index: RunIndex) -> dict[str, str]:
    return {run.key: run.state for run in index.all_runs()}


def collected(
    runs_dir: Path,
    table: str = "cifar100",
    only: Iterable[str] = (),
    seeds: str | None = None,
    **how: Any,
) -> Collected:
    """The table, not yet judged, from an index that is up to date."""
    return collect(load_table(table), refreshed(runs_dir), parse_selection(only, seeds), **how)


def cell(found: Collected, row: str, column: str = COLUMN, metric: str = "top1") -> GridCell:
    there = found.grid.cell(row, column, metric)
    assert there is not None
    return there


def edit(path: Path, **changes: Any) -> None:
    """Change fields of a JSON file in place."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def notes(found: Any, row: str, column: str = COLUMN) -> str:
    """The remarks on a cell."""
    return "; ".join(mark.text for mark in cell(found, row, column).marks)


# -- a row with a grid ----------------------------------------------------------------------

GRID = """
schema: 1
name: grid
source: {paper: Nobody}
dataset: digits
recipe: crd_240
recipe_overrides: {holdout: 20}
teacher: {from: train, seed: fixed}
seeds: [0, 1]
columns: [{teacher: wrn_16_2, student: resnet8}]
rows:
  - name: KD
    methods: [kd]
    grid: {kd.temperature: [2.0, 4.0, 8.0]}
    select: {on: WHERE}
published: {KD: {wrn_16_2-resnet8: {value: 92.0, source: a guess}}}
"""
GRID_COLUMN = "wrn_16_2-resnet8"


def grid_table(tmp_path: Path, where: str) -> str:
    path = tmp_path / "grid.yaml"
    path.write_text(GRID.replace("WHERE", where))
    return str(path)


def fill_grid(tmp_path: Path, table: str, values: list[float], held_out: list[float]) -> None:
    (slot,) = plan(table, only=(), device="cpu").slots
    for variant, value, val in zip(slot.variants, values, held_out, strict=False):
        write(tmp_path / "runs", variant.runs, value)
        for run in variant.runs:
            edit(RunDir(tmp_path / "runs", run.key).result, val_top1=val)
