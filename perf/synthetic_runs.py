"""Run directories as training leaves them, made up: for measuring collection, never results.

    python -m perf.synthetic_runs DIRECTORY --runs 1000

The runs fill the cells of a table over its seeds first, then the same cells with more seeds,
then cells beyond it (other rates and options), as a lab's directory does after a year. Keys
are true: each is the hash of its cell.json. Accuracies are drawn around the published values
with the seed noise of published tables; every 200th run has diverged, every 100th has no
result yet.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark.planning.matrix import Context, Plan, make_plan
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.table.load import load_table
from benchmark.table.selection import Selection
from benchmark.table.spec import Table

SEED_STD = 0.22  # points; see benchmark/results/priors.py
SEEDS = 20  # of each cell of the table
DECAYS = tuple(5e-4 + 1e-6 * step for step in range(1, 1000))  # cells beyond the table
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def synthetic_runs(table: Table, count: int, seeds: int = SEEDS) -> Iterator[tuple[Run, float]]:
    """Yield ``count`` different runs, each with the accuracy that its cell has on average.

    The table's own runs come first: all its planned ones, then further seeds, then runs of
    cells with another weight decay.
    """
    changes: list[dict[str, Any]] = [{}, *({"weight_decay": decay} for decay in DECAYS)]
    found: dict[str, tuple[Run, float]] = {}
    for change, total in itertools.product(changes, (len(table.seeds), seeds)):
        chosen = Selection(seeds=tuple(range(total)), recipe=change)
        plan = make_plan(table, chosen, Context(Path("/nonexistent"), "cuda"))
        means = _means(plan)
        for run in plan.runs:
            if run.key not in found:
                found[run.key] = (run, means.get(run.cell_key, 70.0))
                yield found[run.key]
                if len(found) == count:
                    return


def write_runs(
    runs_dir: Path, table: Table, count: int, seeds: int = SEEDS, *, curves: bool = False
) -> list[Run]:
    """Write run directories and return their runs; with ``curves`` all epochs are recorded."""
    runs_dir.mkdir(parents=True, exist_ok=True)
    written = []
    for number, (run, mean) in enumerate(synthetic_runs(table, count, seeds), 1):
        write_run(
            runs_dir,
            run,
            mean,
            diverged=number % 200 == 0,
            finished=number % 100 != 50,
            curve=curves,
        )
        written.append(run)
    return written


def write_run(
    runs_dir: Path,
    run: Run,
    mean: float,
    *,
    spread: float = SEED_STD,
    diverged: bool = False,
    finished: bool = True,
    curve: bool = False,
) -> dict[str, Any]:
    """Write one run directory and return its result; the same run gets the same numbers."""
    rundir = RunDir(runs_dir, run.key)
    rundir.path.mkdir(parents=True)
    _write(rundir.cell, json.dumps(run.to_json(), indent=1))
    draws = random.Random(run.key)
    last = [round(min(max(draws.gauss(mean, spread), 1.0), 99.0), 2) for _ in range(5)]
    epochs = run.recipe.epochs
    lines = [_record(epochs - 4 + i, value) for i, value in enumerate(last)]
    if curve:
        lines = [_epoch(run, epoch, last, draws) for epoch in range(1, epochs + 1)]
    _write(rundir.records, "".join(json.dumps(line) + "\n" for line in lines))
    result = _result(run, last, diverged)
    if finished:
        _write(rundir.result, json.dumps(result, indent=1))
    return result


def _means(plan: Plan) -> dict[str, float]:
    """Return the average accuracy of each cell: near the published value, a few points off."""
    found = {}
    for slot in plan.slots:
        known = plan.table.published_value(slot.row.name, slot.column.name, "top1")
        value = known.value if known and known.value is not None else 70.0
        for variant in slot.variants:
            found[variant.cell_key] = value + random.Random(slot.row.name).choice((0, 0, -1, 0.4))
    return found


def _record(epoch: int, top1: float) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "lr": 5e-05,
        "losses": {"ce": 0.41, "distillation": 1.02},
        "train_top1": 88.1,
        "top1": top1,
        "top5": round(top1 + (100 - top1) * 0.7, 2),
        "images_per_second": 5210.0,
        "data_wait": 0.1,
        "seconds": 9.6,
        "packed": 12,
    }


def _epoch(run: Run, epoch: int, last: list[float], draws: random.Random) -> dict[str, Any]:
    """Return a record as training writes them: a curve that ends in the run's accuracies."""
    epochs = run.recipe.epochs
    done = epoch / epochs
    drops = sum(done > part for part in (0.62, 0.75, 0.87))
    place = epoch - 1 - (epochs - len(last))
    climb = min(1.0, 0.62 + 0.14 * (1 - 2.0 ** (-12 * done)) + 0.08 * drops)
    top1 = last[place] if place >= 0 else max(1.0, last[0] * climb + draws.gauss(0, 0.6))
    names = ["ce", *(method.name for method in run.methods)]
    losses = {name: 3.0 / (n + 1) * 2.0 ** (-2 * done - drops) for n, name in enumerate(names)}
    return {
        "schema": 1,
        "epoch": epoch,
        "lr": 0.05 * 0.1**drops,
        "losses": losses,
        "train_top1": min(99.9, top1 + 8 * done),
        "test_top1": top1,
        "test_top5": round(top1 + (100 - top1) * 0.7, 2),
        "test_loss": 1.2,
        "val_top1": None,
        "images_per_second": 5210.0,
        "data_wait": 0.1,
        "seconds": 9.6,
        "packed": 12,
    }


def _result(run: Run, last: list[float], diverged: bool) -> dict[str, Any]:
    top5 = [round(value + (100 - value) * 0.7, 2) for value in last]
    metrics = {"top1": _protocols(last), "top5": _protocols(top5)}
    return {
        "schema": 1,
        "key": run.key,
        "cell": run.cell_key,
        "seed": run.seed,
        "diverged": diverged,
        "diverged_at": 3 if diverged else None,
        "epochs": run.recipe.epochs,
        "metrics": {} if diverged else metrics,
        "val_top1": None,
        "seconds": 2304.5,
        "own_seconds": 192.0,
        "images_per_second": 5210.0,
        "restarts": 0,
        "provenance": {
            "commit": COMMIT,
            "dirty": None,
            "versions": {"torch": "2.13.0", "torchvision": "0.28.0", "numpy": "2.4.0"},
            "python": "3.11.9",
            "host": "synthetic",
            "cpu": "synthetic",
            "cpus": 8,
            "threads": run.recipe.threads,
            "gpu": "synthetic",
            "slurm_job": "1234567",
            "slurm_array_job": "1234500",
            "slurm_array_task": str(run.seed),
            "slurm_restart": None,
        },
        "dataset_digest": run.dataset.digest,
        "teacher_digest": "0" * 64,
    }


def _protocols(last: list[float]) -> dict[str, Any]:
    return {
        "last": last[-1],
        "best": round(max(last) + 0.05, 2),
        "best_epoch": 231,
        "median_of_last_5": sorted(last)[2],
        "mean_of_last_5": sum(last) / 5,
        "last_5": last,
    }


def _write(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Write what the command line asks for."""
    parser = argparse.ArgumentParser(description="Made-up run directories.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--table", default="cifar100")
    arguments = parser.parse_args()
    written = write_runs(arguments.directory, load_table(arguments.table), arguments.runs)
    cells = len({run.cell_key for run in written})
    print(f"{len(written)} runs of {cells} cells in {arguments.directory}")


if __name__ == "__main__":
    main()
