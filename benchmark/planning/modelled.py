"""What a run takes by what was counted of it: seconds an epoch and bytes. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from benchmark.data.datasets import described, image_side
from benchmark.planning.operations import (
    CountedWork,
    Effort,
    LinearWork,
    NetworkCounts,
    counted_work,
)
from benchmark.planning.rates import Rates, cpu_rates, gpu_rates, this_gpu
from benchmark.run.identity import Run

# Megabytes of a process with its libraries, before data and networks: without and with CUDA's.
_PROCESS_MB = {"cpu": 420.0, "cuda": 3000.0}
# Freed memory is kept, in pieces that do not always fit again, beside what kernels take themselves.
_SLACK = 1.15
_BF16_BYTES = 0.6  # of float32's: weights and some of the maps stay in float32
_LARGEST_RESIDENT = 64  # sides; larger images are read as they are needed
# A network or a method that was not counted widens the range.
_UNCOUNTED = 1.5


class EpochSeconds(NamedTuple):
    """Seconds of an epoch: the run's own part, and the shared teacher's pass (0 without one)."""

    student: float
    teacher: float


class Modelled:
    """One run by its counts; ``images`` of its epoch, ``spread`` of its seconds.

    ``tests``: images of an evaluation, as many as go with ``images`` by default.
    """

    def __init__(self, run: Run, images: float, tests: float | None = None) -> None:
        self._run, self._images = run, images
        known = counted_work()
        recipe, self._data = run.recipe, described(run.dataset.name, run.dataset.own)
        self._tests = self._data.num_test * images / self._data.num_train
        if tests is not None:
            self._tests = tests
        side = image_side(self._data, recipe)
        self._network = known.network(run.model, side)
        self._teacher: NetworkCounts | None = None
        if run.teacher is not None:
            own = run.teacher_input_size or recipe.crop_size or self._data.image_size
            self._teacher = known.network(run.teacher.model, own)
        self._precision = recipe.settings(run.model)[0]
        self.rates = rates_of(run, self._precision)
        exact = self._network.exact and (self._teacher is None or self._teacher.exact)
        self._parts, all_counted = self._added(known)
        self.spread = self.rates.spread * (1.0 if exact and all_counted else _UNCOUNTED)

    def _added(self, known: CountedWork) -> tuple[list[LinearWork], bool]:
        """Return what the methods add to a step, and whether all of it was counted."""
        run, parts, counted = self._run, [], True
        teacher = run.teacher.model if run.teacher else run.pair or run.model
        step = self._network.step.image
        given = self._teacher.forward.image if self._teacher else Effort()
        for method in run.methods:
            found = known.method(method.name, method.version, f"{teacher}-{run.model}")
            counted = counted and found.exact
            whole = (step.operations + given.operations) / max(step.operations, 1.0)
            parts.append(found.counts or LinearWork(step.times(found.share * whole), Effort()))
        return parts, counted

    def works(self) -> tuple[Effort, Effort]:
        """Return the work of one epoch: the run's own part, and the shared teacher's pass."""
        recipe = self._run.recipe
        batch, size = recipe.batch_size, recipe.eval_batch
        step = self._network.step.on(batch)
        for part in self._parts:
            step += part.on(batch)
        seen = self._network.forward.on(size).times(self._tests / size / recipe.eval_every)
        student = step.times(self._images / batch) + seen
        if self._teacher is None:
            return student, Effort()
        return student, self._teacher.forward.on(batch).times(self._images / batch)

    def epoch(self) -> EpochSeconds:
        """Return the seconds of one epoch."""
        student, teacher = self.works()
        seconds = self.rates.seconds(student)
        if self._run.teacher is None:
            return EpochSeconds(seconds, 0.0)
        precision = self._run.recipe.settings(self._run.teacher.model)[0]
        return EpochSeconds(seconds, rates_of(self._run, precision).seconds(teacher))

    @property
    def stays_mb(self) -> float:
        """Megabytes that the run holds from its first step to its last."""
        stays = self._network.step.step.stays + self._network.step.image.stays
        stays += sum(part.step.stays for part in self._parts)
        return max(0.0, stays) / 2**20

    @property
    def step_mb(self) -> float:
        """Megabytes that a training step or a batch of an evaluation holds beside that."""
        recipe = self._run.recipe
        step = self._network.step.on(recipe.batch_size)
        for part in self._parts:
            step += part.on(recipe.batch_size)
        seen = self._network.forward.on(min(recipe.eval_batch, self._tests))
        size = _BF16_BYTES if self._precision == "bf16" else 1.0
        return max(step.peak, seen.peak, 0.0) * size / 2**20

    @property
    def teacher_mb(self) -> float:
        """Megabytes of the shared teacher, folded, and of its pass."""
        if self._teacher is None:
            return 0.0
        seen = self._teacher.forward.on(self._run.recipe.batch_size)
        return (8.0 * self._teacher.parameters + seen.peak) / 2**20

    @property
    def data_mb(self) -> float:
        """Megabytes of images that are held in memory."""
        side = self._data.image_size
        if side > _LARGEST_RESIDENT:
            return 0.0
        return (self._images + self._tests) * 3 * side**2 / 2**20


def process_mb(parts: Sequence[Modelled], device: str) -> float:
    """Return the megabytes of a process that trains these runs side by side, one step at a time."""
    base = _PROCESS_MB.get(device, _PROCESS_MB["cpu"])
    first = parts[0]
    if device == "cuda":  # networks and their maps are on the device
        return base + first.data_mb
    moving = max(part.step_mb for part in parts)
    still = sum(part.stays_mb for part in parts) + first.teacher_mb + first.data_mb
    return base + _SLACK * (moving + still)


def rates_of(run: Run, precision: str) -> Rates:
    """Return the rates of what a run is trained on, as far as this machine knows it."""
    recipe = run.recipe
    if recipe.device == "cuda":
        return gpu_rates(precision, this_gpu())
    return cpu_rates(precision, recipe.threads)
