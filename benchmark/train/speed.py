"""How fast this CPU trains in either precision and memory format, and on two threads.

``python -m benchmark.train.speed`` prints it as JSON; `bench doctor` runs that, in a process of
its own. A few seconds: one network's training steps, in turn, so that other work meets all alike.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from benchmark.base.speed import BATCH, MODEL, SIDE, Form
from benchmark.models import build_model
from benchmark.table.recipe import ModelSettings, named_recipe
from benchmark.train.memory import keep_freed_memory
from benchmark.train.network import Network
from benchmark.train.optimiser import build_optimizer
from benchmark.train.rng import seeded

ROUNDS = 3
# A step that takes this many times as long as it works has waited for others.
_BUSY = 1.15


def measure(rounds: int = ROUNDS) -> dict[str, float]:
    """Return the seconds of a training step by the name of its form: the median of ``rounds``.

    Processor seconds, which are those that pass on an idle machine, and not moved by others' work
    on a busy one. Two threads are told by seconds that pass, and left out if it is busy.
    """
    keep_freed_memory()
    cpus = len(os.sched_getaffinity(0))
    steps = {form: _step(form) for form in Form if form.threads <= cpus}
    found: dict[str, list[float]] = {form.name.lower(): [] for form in steps}
    threads = torch.get_num_threads()
    idle = True
    try:
        for number in range(rounds + 1):
            for form, step in steps.items():
                torch.set_num_threads(form.threads)
                began = _Times()
                step()
                if not number:  # allocations and caches of the first step are nobody's cost
                    continue
                passed, worked = began.until_now()
                if form.threads == 1:
                    idle = idle and passed < _BUSY * worked
                found[form.name.lower()].append(worked if form.threads == 1 else passed)
    finally:
        torch.set_num_threads(threads)
    if not idle:
        found.pop(Form.TWO_THREADS.name.lower(), None)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


class _Times:
    """When something began, by the clock and by the processor."""

    def __init__(self) -> None:
        self._passed, self._worked = time.perf_counter(), time.process_time()

    def until_now(self) -> tuple[float, float]:
        """Return the seconds that passed since, and those that this process worked."""
        return time.perf_counter() - self._passed, time.process_time() - self._worked


def _step(form: Form) -> Callable[[], None]:
    settings = ModelSettings(precision=form.precision, channels_last=form.channels_last)
    recipe = named_recipe("crd_240").model_copy(
        update={"device": "cpu", "per_model": {MODEL: settings}}
    )
    with seeded(0, "speed"):
        network = Network(MODEL, build_model(MODEL, 100), recipe)
        images = network.layout(torch.randn(BATCH, 3, SIDE, SIDE))
        labels = torch.arange(BATCH)
    optimizer = build_optimizer(recipe, network.model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        with network.autocast():
            loss = F.cross_entropy(network.features(images).logits, labels)
        torch.autograd.backward(loss)
        optimizer.step()

    return step


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure()))
