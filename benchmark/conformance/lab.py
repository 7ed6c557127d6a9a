"""Where a method is tried out: a teacher, a few images, and runs of the real training loop."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from benchmark.base.companion import Companion
from benchmark.conformance.findings import CheckFailedError
from benchmark.conformance.images import FewImages
from benchmark.conformance.pairs import Pair
from benchmark.data.batches import Batch
from benchmark.methods.catalog import method_info
from benchmark.models import build_model
from benchmark.models.features import Features, Model
from benchmark.run.identity import DatasetRef, MethodRef, Run, TeacherRef
from benchmark.table.recipe import Milestones, Precision, Recipe
from benchmark.train.engine import Engine, Interrupted
from benchmark.train.network import Network
from benchmark.train.rng import seeded
from benchmark.train.trainee import Trainee, World

LR = 1e-3  # small: untrained networks of any method stay finite over a few steps


def method_ref(name: str, **options: Any) -> MethodRef:
    """Return a method as a run holds it; UserError for unknown names and options."""
    info = method_info(name)
    return MethodRef(name=name, version=info.version, options=info.resolve(options))


class Lab:
    """Builds runs on one pair, all with the same untrained teacher.

    The teacher's batch norms have seen the images once, so that its features are as large as a
    trained network's. On the ``device`` meta nothing is computed: tensors have shapes alone.
    """

    def __init__(
        self,
        pair: Pair,
        images: FewImages,
        precision: Precision = "fp32",
        channels_last: bool = False,
        device: Literal["cpu", "meta"] = "cpu",
    ) -> None:
        self.pair = pair
        self.images = images
        images.images, images.labels = images.images.to(device), images.labels.to(device)
        recipe = Recipe(
            epochs=2,
            batch_size=images.batch_size,
            lr=LR,
            schedule=Milestones(milestones=(1,)),
            augmentation="none",
            precision=precision,
            channels_last=channels_last,
            threads=torch.get_num_threads(),
            device="cpu",
        )
        self.recipe = recipe.model_copy(update={"device": device})
        with seeded(0, "conformance/teacher"):
            model = build_model(pair.teacher, images.num_classes)
            if device == "cpu":
                _calibrate(model, images)
        self.teacher = Network(pair.teacher, model.requires_grad_(False).eval(), self.recipe)
        shape, labels = images.image_shape, images.labels
        self.world = World(shape, images.num_classes, labels, images.steps_per_epoch)

    def run(
        self,
        methods: Sequence[MethodRef] = (),
        lr: float = LR,
        ce_weight: float | None = None,
        predict: str | None = None,
    ) -> Run:
        """Return the run of a row of methods, or of the plain student."""
        teacher = TeacherRef(model=self.pair.teacher, source="train", key="conformance")
        taught = any(method_info(method.name).needs_teacher for method in methods)
        networks = {n for m in methods for n in method_info(m.name).networks(m.options)}
        return Run(
            dataset=DatasetRef(name="digits", digest="conformance"),
            model=self.pair.student,
            teacher=teacher if taught else None,
            methods=tuple(methods),
            ce_weight=ce_weight,
            predict=predict,
            pair=self.pair.teacher if "pair" in networks else None,
            recipe=self.recipe.model_copy(update={"lr": lr}),
            seed=0,
            versions={},
        )

    def start(self, run: Run) -> Trainee:
        """Return a run at its first step; of a first stage only the last epoch is trained."""
        trainee = Trainee(run, self.world, self.teacher if run.teacher else None)
        trainee.epoch = max(trainee.epoch, 0)
        return trainee

    def batch(self, number: int = 0) -> Batch:
        """Return a batch of the first epoch."""
        return next(iter(self.images.epoch(1, number)))

    def step(self, trainee: Trainee, taught: Features | None = None) -> None:
        """Take a step of a run outside the loop; ``taught``: in place of the teacher's features."""
        if not trainee.uses_images:
            trainee.train_step(None, None)
            return
        batch, further = self.seen(trainee)
        if taught is None and trainee.needs_teacher:
            taught = self.taught(batch)
        trainee.train_step(batch, taught, further)

    def seen(self, trainee: Trainee) -> tuple[Batch, dict[Companion, Batch] | None]:
        """Return the batch that such a step sees, and the further images that the run asks for."""
        asked = trainee.companions
        if not asked:
            return self.batch(), None
        # Where there is a full batch before it.
        epoch, number = (1, 1) if self.images.steps_per_epoch > 1 else (2, 0)
        batch = next(iter(self.images.epoch(epoch, number)))
        return batch, {which: self.images.companion(which, epoch, number) for which in asked}

    def taught(self, batch: Batch) -> Features:
        """Return the teacher's features."""
        with torch.no_grad():
            return self.teacher.features(batch.images)

    def train(self, trainees: Sequence[Trainee], stop_after: int | None = None) -> int:
        """Train a pack by the real loop, to its end or for some ticks; return the ticks taken.

        Raises what a run raises, and CheckFailedError where one diverges.
        """
        listener = _Quiet(stop_after)
        self.images.holds_out = any(trainee.wants_held_out for trainee in trainees)
        teacher = self.teacher if any(t.run.teacher for t in trainees) else None
        with contextlib.suppress(Interrupted):
            Engine(trainees, self.images, teacher, listener).train()
        for trainee in trainees:
            if trainee.diverged_at is not None:
                raise CheckFailedError(f"the loss became infinite or NaN at a rate of {LR}")
        return listener.ticks


class _Quiet:
    """Counts what the loop does and stops it (an engine Listener)."""

    def __init__(self, stop_after: int | None) -> None:
        self.ticks = 0
        self._stop_after = stop_after

    def tick(self, trainees: Sequence[Trainee]) -> Sequence[Trainee]:
        self.ticks += 1
        if self.ticks == self._stop_after:
            raise Interrupted("far enough")
        return ()

    def epoch_done(self, trainee: Trainee, record: dict[str, Any]) -> None:
        """Nothing is recorded."""

    def finished(self, trainee: Trainee) -> None:
        """Nothing is kept."""

    def failed(self, trainee: Trainee, error: Exception) -> None:
        raise error


def _calibrate(model: Model, images: FewImages) -> None:
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(images.images[: images.batch_size])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
