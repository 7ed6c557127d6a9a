"""Each row's own cost: its training step beside the plain student's, the teacher's answers given.

    python -m perf.method_costs FOLDER [--column resnet32x4-resnet8x4] [--rounds 9]

FOLDER holds CIFAR-100's official pickles (or a subset). The rows are those of the ``cifar100``
table, all at batch 64; the plain student, the teacher's forward pass and every row's step take
turns, and so does the pass of a teacher of a row's own, which is a part of its step. Methods with
a memory of the training set see 50,000 labels. Operations are those that torch counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmark.data.open import open_batches
from benchmark.data.write import write_dataset
from benchmark.models.features import Features
from benchmark.run.identity import Run
from benchmark.train.memory import keep_freed_memory
from benchmark.train.network import Network
from benchmark.train.teacher import load_teacher
from benchmark.train.trainee import Trainee, World
from perf.interleaved import middle
from perf.standin import with_teacher
from perf.train_speed import SPEED_TABLE, conditions, plan_runs

CIFAR_SAMPLES = 50_000
Work = Callable[[], object]


def rows(column: str, precision: str, data: Path) -> dict[str, Run]:
    """Return the rows of the column by the names of their methods; all at batch 64."""
    found: dict[str, Run] = {}
    for table in ("cifar100", str(SPEED_TABLE)):
        for run in plan_runs(table, column, precision, data):
            recipe = run.recipe.model_copy(update={"batch_size": 64})
            name = " + ".join(method.name for method in run.methods)
            found.setdefault(name, run.model_copy(update={"recipe": recipe}))
    return found


def build(runs: dict[str, Run], data: Path, runs_dir: Path) -> dict[str, Work]:
    """Return a step of the plain student and of every row, and the passes of teachers."""
    runs = dict(zip(runs, with_teacher(list(runs.values()), data, runs_dir), strict=True))
    first = next(iter(runs.values()))
    batches = open_batches(
        "cifar100", data, seed=0, batch_size=64, augmentation="crop_flip", channels_last=True
    )
    labels = torch.arange(CIFAR_SAMPLES) % batches.num_classes
    world = World(batches.image_shape, batches.num_classes, labels, batches.steps_per_epoch)
    teacher = load_teacher(first, batches.num_classes, runs_dir).network
    teacher.fold(batches.image_shape)
    batch = next(batches.epoch(1))

    def forward(network: Network) -> Features:
        with torch.no_grad():
            return network.features(batch.images)

    features = forward(teacher)
    plain = first.model_copy(update={"teacher": None, "methods": ()})
    steps: dict[str, Work] = {}
    passes: dict[str, Work] = {"the shared teacher's pass": partial(forward, teacher)}
    for name, run in {"student": plain, **runs}.items():
        trainee = Trainee(run, world, None if run is plain else teacher)
        assert trainee.epoch == 1, f"{name} has a first stage"
        steps[name] = partial(trainee.train_step, batch, features)
        if trainee.private_teacher is not None:
            passes[f"the pass of {name}'s teacher"] = partial(forward, trainee.private_teacher)
    return steps | passes


def seconds(work: Work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def count_operations(work: Work) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="cifar-100-python")
    parser.add_argument("--column", default="resnet32x4-resnet8x4")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    print(conditions(options.rounds))
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        data, runs_dir = Path(folder) / "data", Path(folder) / "runs"
        write_dataset("cifar100", options.folder, data, allow_altered=True)
        runs = rows(options.column, options.precision, data)
        torch.set_num_threads(next(iter(runs.values())).recipe.threads)
        work = build(runs, data, runs_dir)
        operations = {name: count_operations(one) for name, one in work.items()}
        found: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(options.rounds):
            for name, one in work.items():
                found[name].append(seconds(one))
    print(f"\n{options.column}, {options.precision}\n")
    print("| row | ms a step | to the plain student's | GFLOP |\n|---|---|---|---|")
    for name, taken in found.items():
        ratio = middle([a / b for a, b in zip(taken, found["student"], strict=True)])
        milliseconds, giga = 1000 * statistics.median(taken), operations[name] / 1e9
        print(f"| {name} | {milliseconds:.0f} | {ratio} | {giga:.0f} |")


if __name__ == "__main__":
    main()
