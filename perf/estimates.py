"""Estimates beside what was measured: every pair of the cifar100 table, one KD cell each.

    python -m perf.estimates FOLDER [--images 640] [--methods kd] [--pair PAIR]...

FOLDER holds CIFAR-100's official pickles (or a subset of them). Every pair trains one epoch on
so many images and is evaluated, as a user's run is, in a process of its own with one thread.
Processor seconds are compared, from the end of the first step to the end of the evaluation, since
other work on the machine hardly moves them; with the estimate by counts and rates alone, and with
one calibrated by the other pairs. At the end: the rates that would fit best.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pickle
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import reduce
from multiprocessing.queues import Queue
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from benchmark.conformance.pairs import table_pairs
from benchmark.data.write import write_dataset
from benchmark.planning.estimate import History, read_history
from benchmark.planning.modelled import Modelled
from benchmark.planning.operations import Effort
from benchmark.planning.packs import Pack
from benchmark.planning.rates import cpu_rates
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from perf.standin import with_teacher
from perf.train_speed import conditions, plan_runs


def shrink(folder: Path, to: Path, images: int) -> None:
    """Write the first images of official pickles as such pickles."""
    to.mkdir()
    for name, wanted in (("train", images), ("test", max(1, images // 5)), ("meta", 0)):
        content = pickle.loads((folder / name).read_bytes(), encoding="bytes")
        if wanted:
            content = {
                key: value[:wanted] if isinstance(value, list | np.ndarray) else value
                for key, value in content.items()
            }
        (to / name).write_bytes(pickle.dumps(content))


class Measurement(NamedTuple):
    """What a pack took after its first step: processor seconds, and the most memory."""

    runs: list[Run]
    seconds: float
    peak_mb: float


def train(runs: Sequence[Run], data: Path, runs_dir: Path, told: Queue[float]) -> None:
    from benchmark.train.pack import Surroundings, train_pack
    from benchmark.train.report import Lines

    times: list[float] = []
    os.environ["BENCH_TEACHER_ANSWERS"] = "off"
    where = Surroundings(reporter=Lines, stop=lambda: times.append(time.process_time()))
    train_pack(Pack("estimates", tuple(runs)).file(runs_dir, data), where)
    told.put(times[-1] - times[0])


def measure(column: str, precision: str, work: Path, methods: set[str]) -> Measurement:
    """Train the cells of these methods in a process of their own."""
    planned = [
        run.model_copy(update={"recipe": run.recipe.model_copy(update={"epochs": 1, "threads": 1})})
        for run in plan_runs("cifar100", column, precision, work / "data")
        if {method.name for method in run.methods} <= methods
    ]
    runs_dir = work / f"{column}-{precision}"
    taught = with_teacher(planned, work / "data", runs_dir)
    context = multiprocessing.get_context("spawn")
    told: Queue[float] = context.Queue()
    process = context.Process(target=train, args=(taught, work / "data", runs_dir, told))
    process.start()
    seconds = told.get()
    process.join()
    result = json.loads(RunDir(runs_dir, taught[0].key).result.read_text())
    shutil.rmtree(runs_dir)
    return Measurement(taught, seconds, float(result["peak_memory_mb"]))


def estimated(found: Measurement, images: int) -> list[Effort]:
    """Return the work of what was measured: all runs' own parts, and the teacher's pass."""
    batch = found.runs[0].recipe.batch_size
    models = [Modelled(run, float(images - batch), tests=images // 5) for run in found.runs]
    return [*(model.works()[0] for model in models), models[0].works()[1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="cifar-100-python")
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--methods", default="kd", help="names, comma-separated: a pack of them")
    parser.add_argument("--pair", action="append", help="some pairs alone")
    options = parser.parse_args()
    print(conditions(1), flush=True)
    pairs = options.pair or [pair.key for pair in table_pairs()]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        shrink(options.folder, work / "small", options.images)
        write_dataset("cifar100", work / "small", work / "data", allow_altered=True)
        found = {}
        for pair in pairs:
            found[pair] = measure(pair, options.precision, work, set(options.methods.split(",")))
            print(f"{pair}: {found[pair].seconds:.2f} s", file=sys.stderr, flush=True)
        report(found, options.images, read_history(work / "nowhere", work / "data"))


def report(found: dict[str, Measurement], images: int, known: History) -> None:
    """Print the table of estimates beside measurements, and what rates would fit."""
    first = next(iter(found.values())).runs[0].recipe
    rates = cpu_rates(first.precision, 1)
    works = {pair: reduce(Effort.__add__, estimated(one, images)) for pair, one in found.items()}
    ratios = {pair: rates.seconds(works[pair]) / one.seconds for pair, one in found.items()}
    print("\n| pair | seconds | by counts | calibrated by the others | peak MB | estimated |")
    print("|---|---|---|---|---|---|")
    for pair, one in found.items():
        others = [ratio for other, ratio in ratios.items() if other != pair] or [1.0]
        memory = known.cost(one.runs).memory_mb
        print(
            f"| {pair} | {one.seconds:.1f} | {ratios[pair]:.2f}x"
            f" | {ratios[pair] / statistics.median(others):.2f}x"
            f" | {one.peak_mb:,.0f} | {memory:,.0f} ({memory / one.peak_mb:.2f}x) |"
        )
    kernels = {pair: rates.kernel_seconds * works[pair].kernels for pair in found}
    rows = [
        [works[p].operations / one.seconds, works[p].moved / one.seconds]
        for p, one in found.items()
    ]
    rest = [1 - kernels[pair] / one.seconds for pair, one in found.items()]
    scale = np.array(rows).mean(axis=0)
    each, _ = nnls(np.array(rows) / scale, np.array(rest))
    with np.errstate(divide="ignore"):
        operations, moved = scale / each
    print(f"\nfit: {operations:.3g} operations and {moved:.3g} bytes a second")


if __name__ == "__main__":
    main()
