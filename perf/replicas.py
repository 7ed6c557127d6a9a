"""What synchronising two processes costs in a step: meeting, and adding up the gradients.

    python -m perf.replicas [--steps 30] [--model resnet8x4] [--side 32]

Two processes with gloo, one thread each, carry the two replicas of a batch of 64 random images.
Before the two meet, each waits for the other apart: that wait is what the machine does to two equal
computations, and is shown beside the exchange itself. Both are medians over steps, as shares of the
step without the wait.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.data.batches import Batch, cut
from benchmark.run.identity import DatasetRef, Run
from benchmark.table.recipe import Cosine, Recipe
from benchmark.train.join import join
from benchmark.train.place import Place
from benchmark.train.processes import Processes
from benchmark.train.steps import Given
from benchmark.train.trainee import Trainee, World

BATCH, REPLICAS = 64, 2


class Step(NamedTuple):
    """Seconds of one step: waiting for the other process, exchanging, and all of it."""

    wait: float
    exchange: float
    whole: float


class _Clock:
    """Measures what a crew does, the wait for the other process apart."""

    def __init__(self, crew: Processes) -> None:
        self.wait = self.exchange = 0.0
        self._crew, self._meet, self._added = crew, crew.meet, crew.added
        crew.meet, crew.added = self.meet, self.added  # type: ignore[method-assign]

    def meet(self, key: str, content: str) -> None:
        began = time.perf_counter()
        self._crew.gathered(torch.zeros(1))
        waited = time.perf_counter()
        self._meet(key, content)
        self.wait += waited - began
        self.exchange += time.perf_counter() - waited

    def added(self, rows: Tensor, replicas: int) -> Tensor:
        began = time.perf_counter()
        found = self._added(rows, replicas)
        self.exchange += time.perf_counter() - began
        return found


def _train(process: int, port: int, opened: Connection, model: str, side: int, steps: int) -> None:
    torch.set_num_threads(1)
    place = Place(process, REPLICAS, process, port=port)
    crew = join(place, opened=opened.send)
    recipe = Recipe(
        epochs=1,
        batch_size=BATCH,
        lr=0.01,
        schedule=Cosine(kind="cosine"),
        augmentation="none",
        device="cpu",
        threads=1,
        replicas=REPLICAS,
        input_size=side,
    )
    run = Run(
        dataset=DatasetRef(name="cifar100", digest="-"),
        model=model,
        recipe=recipe,
        seed=0,
        versions={},
    )
    labels = torch.arange(BATCH) % 100
    trainee = Trainee(run, World((3, side, side), 100, labels, steps + 2), None, crew)
    crew.begin([run.key])
    images = torch.randn(BATCH, 3, side, side, generator=torch.Generator().manual_seed(0))
    share = crew.share(REPLICAS)
    own = torch.cat([torch.arange(part.start, part.stop, part.step) for part in share.parts(BATCH)])
    batch = Batch(images[own], labels[own], own, whole=BATCH)
    parts = [Given(part, None, None, len(own), len(own) / BATCH) for part in cut(batch, share)]
    found = []
    for _ in range(steps + 2):
        clock = _Clock(crew)
        began = time.perf_counter()
        trainee.train_parts(parts)
        found.append(Step(clock.wait, clock.exchange, time.perf_counter() - began))
        crew.meet, crew.added = clock._meet, clock._added  # type: ignore[method-assign]
    crew.close()
    opened.send(found[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--model", default="resnet8x4")
    parser.add_argument("--side", type=int, default=32)
    asked = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    settings = (asked.model, asked.side, asked.steps)
    first = context.Process(target=_train, args=(0, 0, theirs, *settings))
    first.start()
    port = ours.recv()
    _, other = context.Pipe()
    second = context.Process(target=_train, args=(1, port, other, *settings))
    second.start()
    found: list[Step] = ours.recv()
    for process in (first, second):
        process.join()
    busy = [step.whole - step.wait for step in found]
    shares = [100 * step.exchange / whole for step, whole in zip(found, busy, strict=True)]
    waits = [100 * step.wait / whole for step, whole in zip(found, busy, strict=True)]
    print(f"{asked.model}, {asked.side} px, batch {BATCH}, n = {len(found)}")
    print(f"step without waiting {1e3 * statistics.median(busy):.0f} ms")
    for name, values in (("exchange", shares), ("wait for the other process", waits)):
        middle = statistics.median(values)
        print(f"{name}: {middle:.1f} % of it ({min(values):.1f} to {max(values):.1f})")


if __name__ == "__main__":
    main()
