"""One pack on two threads, or two packs side by side on one thread each?

    python -m perf.threads FOLDER [--rounds 7]

FOLDER holds CIFAR-100's official pickles (or a subset). Two packs of KD and RKD with one thread
each work at the same time, then one such pack with two threads; what counts is images x methods
a second, of both packs together.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path

from benchmark.data.write import write_dataset
from benchmark.run.identity import Run
from perf.interleaved import Contender, middle
from perf.plain_loop import BATCH_SIZE
from perf.standin import with_teacher
from perf.train_speed import conditions, plan_runs, train_ours

COLUMNS = ("resnet32x4-resnet8x4", "resnet56-resnet20", "vgg13-mobilenetv2")


def contender(runs: list[Run], threads: int, data: Path, runs_dir: Path, steps: int) -> Contender:
    recipe = runs[0].recipe.model_copy(update={"threads": threads})
    runs = [run.model_copy(update={"recipe": recipe}) for run in runs]
    runs = with_teacher(runs, data, runs_dir)
    return Contender(partial(train_ours, runs, data, runs_dir), BATCH_SIZE * len(runs), steps)


def measure(column: str, data: Path, work: Path, rounds: int, steps: int) -> str:
    """Return the table's row of one column."""
    chosen = {"kd", "rkd"}
    runs = [
        run
        for run in plan_runs("cifar100", column, "fp32", data)
        if {method.name for method in run.methods} <= chosen
    ]
    wide = contender(runs, 2, data, work / f"{column}-wide", steps)
    narrow = [contender(runs, 1, data, work / f"{column}-{n}", steps) for n in range(2)]
    gains = []
    for _ in range(rounds):
        wide.run()
        for one in narrow:
            one.begin()
        for one in narrow:
            one.end()
        gains.append(sum(one.rates[-1] for one in narrow) / wide.rates[-1])
    for one in (wide, *narrow):
        one.close()
    memory = sum(one.peak_mb for one in narrow) / wide.peak_mb
    rate = f"{statistics.median(wide.rates):,.0f}"
    return f"| {column} | {rate} | {middle(gains)} | {memory:.1f}x |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="cifar-100-python")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    print(conditions(options.rounds))
    print(
        "\n| column | one pack, 2 threads | two packs, 1 thread each | memory |\n|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_dataset("cifar100", options.folder, work / "data", allow_altered=True)
        for column in COLUMNS:
            row = measure(column, work / "data", work, options.rounds, options.steps)
            print(row, flush=True)


if __name__ == "__main__":
    main()
