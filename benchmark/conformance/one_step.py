"""One batch as a method's loss sees it, outside the loop: any gradient can be asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.base.companion import Companion
from benchmark.conformance.lab import Lab
from benchmark.data.batches import Batch
from benchmark.methods.base import Step
from benchmark.methods.seen import NO_FEATURES
from benchmark.models.features import Features
from benchmark.run.identity import MethodRef
from benchmark.train.trainee import Trainee

# Past the warm-up of every published method, so that no weight is zero.
EPOCH = 30


class Observed(NamedTuple):
    """What both networks say to a batch, and the method's own teacher if it has one.

    ``further``: the step's further images, which the method asks for.
    """

    batch: Batch
    student: Features
    teacher: Features | None
    private: Features | None
    further: dict[Companion, Batch]


def main_stage(lab: Lab, ref: MethodRef) -> Trainee:
    """Return a run at the first step of its main stage."""
    trainee = lab.start(lab.run([ref]))
    if trainee.epoch < 1:
        trainee.end_epoch()
    trainee.student.model.train()
    trainee.methods.train()
    return trainee


def observe(lab: Lab, trainee: Trainee) -> Observed:
    """Return a full batch and the features of it; the student's without a graph.

    For a run without images: no image, and the features of none.
    """
    if not trainee.uses_images:
        return Observed(trainee.no_images, NO_FEATURES, None, None, {})
    batch, further = lab.seen(trainee)
    with torch.no_grad():
        private = trainee.private_teacher
        return Observed(
            batch,
            trainee.student.model.features(batch.images),
            lab.taught(batch) if trainee.teacher else None,
            private.features(batch.images) if private else None,
            further or {},
        )


def terms_of(lab: Lab, trainee: Trainee, seen: Observed) -> tuple[dict[str, Tensor], Tensor]:
    """Return the terms of a step by name, those of all turns too, and the logits; none is taken.

    A turn's terms of one name are summed with those of later turns, as in a record.
    """
    step = make_step(lab, trainee, seen)
    found, logits = trainee.objective.terms(step, seen.private, seen.further)
    if trainee.objective.takes_turns:
        for turn in trainee.objective.turns(step, seen.private, seen.further, {}):
            for _, terms in turn.entries:
                found |= {k: found[k] + v if k in found else v for k, v in terms.items()}
    return found, logits


def leaves(features: Features) -> Features:
    """Return copies that collect gradients."""
    return mapped(features, lambda tensor: tensor.detach().clone().requires_grad_())


def mapped(features: Features, change: Callable[[Tensor], Tensor]) -> Features:
    """Return features with every tensor changed."""
    return Features(
        change(features.logits),
        change(features.pooled),
        tuple(change(map_) for map_ in features.stages),
        tuple(change(map_) for map_ in features.preacts),
        None if features.last_map is None else change(features.last_map),
        tuple(change(logits) for logits in features.heads),
        None if features.patches is None else change(features.patches),
    )


def named(features: Features) -> dict[str, Tensor]:
    """Return every tensor by name: logits, pooled, stages.0, ..."""
    found = {"logits": features.logits, "pooled": features.pooled}
    found |= {f"stages.{i}": map_ for i, map_ in enumerate(features.stages)}
    found |= {f"preacts.{i}": map_ for i, map_ in enumerate(features.preacts)}
    found |= {f"heads.{i}": logits for i, logits in enumerate(features.heads)}
    for name in ("last_map", "patches"):
        map_ = getattr(features, name)
        found |= {} if map_ is None else {name: map_}
    return found


def make_step(lab: Lab, trainee: Trainee, seen: Observed) -> Step:
    """Return the step of such a batch."""
    return Step(
        images=seen.batch.images,
        labels=seen.batch.labels,
        indices=seen.batch.indices,
        student=seen.student,
        teacher=seen.teacher,
        epoch=EPOCH,
        student_head=trainee.student.model.head,
        teacher_head=lab.teacher.model.head if trainee.teacher else None,
        run=trainee.student.run,
    )


def total(terms: dict[str, Tensor]) -> Tensor:
    """Return the sum of scalar terms; zero of none."""
    if not terms:
        return torch.zeros(())
    return torch.stack([value.float() for value in terms.values()]).sum()
