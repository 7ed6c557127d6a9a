"""How much longer a training step takes with a method than without: measured, with its conditions.

A step with the method and a plain student's step are timed one after the other, round by round,
so that whatever else the machine does meets both; the cost is the median of their ratios. One
thread's processor time is what counts: on an idle machine the time that passes, and on a busy one
not the time that others took. The teacher's features are given, as in a pack; a method that runs a
teacher of its own pays for it in its step.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch

from benchmark.conformance.images import digit_images
from benchmark.conformance.lab import Lab, method_ref
from benchmark.conformance.pairs import Pair
from benchmark.data.batches import Batch
from benchmark.methods.catalog import MethodInfo
from benchmark.models.features import Features
from benchmark.train.provenance import provenance
from benchmark.train.trainee import Trainee

PAIR = Pair("resnet32x4", "resnet8x4")
# CIFAR-100's sizes: methods with memories and class counts cost what they cost there.
BATCH, SIZE, CLASSES, SAMPLES = 64, 32, 100, 50_000
ROUNDS = 7


def measure_costs(
    infos: Iterable[MethodInfo],
    pair: Pair = PAIR,
    batch_size: int = BATCH,
    rounds: int = ROUNDS,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the conditions of the measurement, and by method its costs.

    Costs: ``relative_step_cost`` (1 is free) with its ``quartiles``, and if there is a first
    stage ``first_stage_step_cost``. Raises UserError if a method is undefined on ``pair``.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measured(infos, pair, batch_size, rounds, say)
    finally:
        torch.set_num_threads(threads)


def _measured(
    infos: Iterable[MethodInfo],
    pair: Pair,
    batch_size: int,
    rounds: int,
    say: Callable[[str], None],
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    lab = Lab(pair, digit_images(batch_size, SIZE, batch_size, SAMPLES, CLASSES))
    batch = lab.batch()
    teacher = lab.taught(batch)
    plain = _Timer(lab, lab.start(lab.run()), None)
    costs = {}
    for info in infos:
        costs[info.name] = _cost_of(info, lab, plain, batch, teacher, rounds)
        say(f"{info.name}: {costs[info.name]}")
    conditions = {
        "command": "bench methods --json --measure",
        "what": "processor seconds of a step with the method / of the plain student's step,"
        " median of interleaved rounds, teacher features given",
        "pair": list(pair),
        "batch_size": batch_size,
        "image_size": SIZE,
        "training_samples": SAMPLES,
        "rounds": rounds,
        "precision": "fp32",
        "plain_step_seconds": round(statistics.median(plain.seconds), 4),
        "teacher_forward_relative": _teacher_cost(lab, plain, batch, rounds),
        **{k: v for k, v in provenance().items() if k in ("cpu", "cpus", "threads", "versions")},
        "gpu": None,
    }
    return conditions, costs


def _cost_of(
    info: MethodInfo, lab: Lab, plain: _Timer, batch: Batch, teacher: Features, rounds: int
) -> dict[str, Any]:
    run = lab.run([method_ref(info.name)])
    first = lab.start(run)
    main = lab.start(run)
    cost: dict[str, Any] = {}
    if main.epoch < 1:
        ratios = _ratios(plain, _Timer(lab, first, teacher), rounds)
        cost["first_stage_step_cost"] = round(statistics.median(ratios), 3)
        main.end_epoch()
    ratios = _ratios(plain, _Timer(lab, main, teacher), rounds)
    low, _, high = statistics.quantiles(ratios, n=4)
    cost["relative_step_cost"] = round(statistics.median(ratios), 3)
    cost["quartiles"] = [round(low, 3), round(high, 3)]
    return cost


def _ratios(plain: _Timer, other: _Timer, rounds: int) -> list[float]:
    plain.step()
    other.step()  # allocations and caches of the first step are nobody's cost
    return [1 / plain.step() * other.step() for _ in range(rounds)]


class _Timer:
    """Takes steps of one run and notes the processor time of each."""

    def __init__(self, lab: Lab, trainee: Trainee, teacher: Features | None) -> None:
        self._trainee = trainee
        batch, further = lab.seen(trainee)
        self._given = (batch, teacher, further) if trainee.uses_images else (None, None, None)
        self.seconds: list[float] = []

    def step(self) -> float:
        """Take a step; return its seconds."""
        began = time.process_time()
        self._trainee.train_step(*self._given)
        self.seconds.append(time.process_time() - began)
        assert self._trainee.diverged_at is None, "a diverged run does not take the usual time"
        return self.seconds[-1]


def _teacher_cost(lab: Lab, plain: _Timer, batch: Batch, rounds: int) -> float:
    ratios = []
    for _ in range(rounds):
        step = plain.step()
        began = time.process_time()
        with torch.no_grad():
            lab.teacher.features(batch.images)
        ratios.append((time.process_time() - began) / step)
    return round(statistics.median(ratios), 3)
