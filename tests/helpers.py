"""Small real runs for tests: the digits table with a recipe of a few epochs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmark.planning.matrix import Context, Plan, make_plan
from benchmark.planning.packs import Pack, make_packs
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.table.load import load_table
from benchmark.table.selection import parse_selection
from benchmark.train.pack import Outcome, Surroundings, train_pack
from benchmark.train.report import Lines

SHORT = ("recipe.epochs=2", "recipe.eval_every=1", "recipe.schedule.milestones=[1]")


def digits_plan(
    data: Path,
    only: Iterable[str] = (),
    seeds: str = "0",
    sets: Iterable[str] = SHORT,
    table: str = "digits",
) -> Plan:
    """Expand the digits table with a short recipe."""
    chosen = parse_selection(only, seeds, sets)
    return make_plan(load_table(table), chosen, Context(data_dir=data, device="cpu"))


def train(
    runs: Iterable[Run],
    data: Path,
    runs_dir: Path,
    stop: Callable[[], str | None] = lambda: None,
    **where: Any,
) -> Outcome:
    """Train runs as one pack, in this process."""
    pack = Pack("test", tuple(runs)).file(runs_dir, data)
    return train_pack(pack, Surroundings(stop=stop, reporter=Lines, **where))


def train_plan(plan: Plan, data: Path, runs_dir: Path, size: int = 12, **where: Any) -> None:
    """Train everything that a plan needs, teachers first; every run must end well."""
    for pack in make_packs("test", plan.runs, [run.key for run in plan.teachers], size):
        outcome = train(pack.runs, data, runs_dir, **where)
        assert set(outcome.endings.values()) == {"done"}, outcome


def numbers(runs_dir: Path, run: Run) -> dict[str, Any]:
    """Return all that must not depend on how a run was trained, down to the last bit."""
    rundir = RunDir(runs_dir, run.key)
    result = rundir.read_result()
    records = rundir.read_records()
    volatile = {
        "seconds",
        "data_wait",
        "teacher_seconds",
        "student_seconds",
        "images_per_second",
        "packed",
        "peak_memory_mb",
    }
    return {
        "weights": rundir.weights.read_bytes(),
        "metrics": json.dumps(result["metrics"]),
        "records": [{k: v for k, v in r.items() if k not in volatile} for r in records],
    }
