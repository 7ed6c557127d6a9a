"""What probes cost: a training step and every probe in turns, and what that makes of an epoch.

    python -m perf.probe_cost FOLDER --rounds 8

FOLDER holds CIFAR-100 in its official layout. resnet56 teaches resnet20 by the projector and by
DHKD with the recipe crd_240 (batches of 64) on one thread; both networks have initial weights,
which cost as much as trained ones. Processor time, medians: other programs slow both sides. Each
probe is asked once before, which reads its images and asks the teacher. The share is of an
epoch's steps alone; the evaluation after it would make it smaller.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmark.base.share import WHOLE
from benchmark.data.write import write_dataset
from benchmark.models import build_model
from benchmark.planning.matrix import Context, make_plan
from benchmark.planning.packs import Pack
from benchmark.run.identity import Run
from benchmark.table.load import load_table
from benchmark.table.selection import parse_selection
from benchmark.train.network import Network
from benchmark.train.probes import known_probes
from benchmark.train.probing import Probes
from benchmark.train.start import open_data, prepare_process
from benchmark.train.trainee import Trainee, World

TABLE = """
schema: 1
name: probed
title: Two rows to probe
source: {paper: Nobody}
dataset: cifar100
recipe: crd_240
teacher: {from: train, seed: fixed}
seeds: [0]
columns: [{teacher: resnet56, student: resnet20}]
rows:
  - {name: Projector, methods: [projector]}
  - {name: DHKD, methods: [dhkd]}
"""
EPOCHS = {"9,485 images": 149, "50,000 images": 782}  # steps of 64


def measure(run: Run, data: Path, rounds: int) -> dict[str, float]:
    """Return the median processor seconds of a step and of each probe that says something."""
    prepare_process(run)
    batches = open_data(run, Pack("probed", (run,)).file(data, data), WHOLE)
    world = World(batches.image_shape, batches.num_classes, batches.labels, batches.steps_per_epoch)
    teacher = Network("resnet56", build_model("resnet56", 100).eval(), run.recipe)
    teacher.model.requires_grad_(False)
    trainee = Trainee(run, world, teacher)
    teacher.fold(batches.image_shape)
    probes = {name: Probes(batches, teacher, print) for name in known_probes()}
    spent: defaultdict[str, list[float]] = defaultdict(list)

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began = time.process_time()
        found = work()
        spent[name].append(time.process_time() - began)
        return found

    source = batches.epoch(1)

    def step() -> None:
        batch = next(source)
        with torch.no_grad():
            features = teacher.features(batch.images)
        trainee.train_step(batch, features.only(trainee.teacher_maps))

    for number in range(rounds + 1):
        timed("a step", step)
        for name, probe in probes.items():
            trainee.recipe = run.recipe.model_copy(update={"probes": (name,)})
            if not timed(name, lambda probe=probe: probe.ask(trainee, 1)):  # type: ignore[misc]
                del spent[name]
        if number == 0:
            spent.clear()
    return {name: statistics.median(seconds) for name, seconds in spent.items()}


def main() -> None:
    """Measure both rows and print shares of epochs."""
    parser = argparse.ArgumentParser(description="The cost of probes.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset("cifar100", arguments.folder, folder / "data", allow_altered=True)
        (folder / "probed.yaml").write_text(TABLE)
        chosen = parse_selection([], "0", ["recipe.threads=1"])
        plan = make_plan(
            load_table(str(folder / "probed.yaml")), chosen, Context(folder / "data", "cpu")
        )
        print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, n = {arguments.rounds}")
        for run in plan.runs:
            if not run.methods:
                continue
            spent = measure(run, folder / "data", arguments.rounds)
            one = spent.pop("a step")
            print(f"{run.methods[0].name}: a step {one:.3f} s")
            for probe, seconds in spent.items():
                shares = (
                    f"{100 * seconds / n / one:.2f} % of {what}" for what, n in EPOCHS.items()
                )
                print(f"  {probe:12}{seconds:7.3f} s, {', '.join(shares)}", flush=True)


if __name__ == "__main__":
    main()
