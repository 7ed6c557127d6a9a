"""What a method is given: networks when it is built, a batch when it is asked for its loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.data.batches import Batch
from benchmark.models import build_model
from benchmark.models.features import Features, Model
from benchmark.models.parts import Tail

STUDENT, PAIR = "student", "pair"  # names that stand for a network's own


class Probe(NamedTuple):
    """One network as a method sees it when it is built.

    ``features`` come from two images in eval mode and give every shape; ``model`` is the
    network itself, to read from (its head, its batch-norm layers). A method that keeps a part
    of it keeps a copy: assigning a module would make it one of the method's own. Hooks on the
    teacher are refused: a copy of it computes the features.
    """

    name: str
    model: Model
    features: Features


@dataclass(frozen=True)
class Setup:
    """All that a method may know before the first batch.

    ``labels`` [N] int64: the training labels in index order; ``batch_size``: of a full batch;
    ``epochs``: of the whole run; ``seed``: the run's. ``teacher`` is None for methods that
    need none. ``pair``: the architecture of the column's teacher, if the method's options
    name it among their ``networks``; no weights of it are needed. ``steps_per_epoch``: steps in
    an epoch of this run. ``make``: builds a network for a role, see :meth:`build`; without it
    networks are drawn from torch's current random numbers, for their shapes say.
    ``image_shape``: (C, H, W) of an image as the student reads it.
    """

    student: Probe
    teacher: Probe | None
    num_classes: int
    labels: Tensor
    batch_size: int
    epochs: int
    seed: int
    pair: str | None = None
    steps_per_epoch: int = 1
    make: Callable[[str, str], Model] | None = None
    image_shape: tuple[int, int, int] = (3, 32, 32)

    def need_teacher(self) -> Probe:
        """Return the teacher's probe; a programmer's error if there is none."""
        assert self.teacher is not None, "this method needs a teacher"
        return self.teacher

    def build(self, role: str, network: str = STUDENT) -> Model:
        """Return a fresh network in the run's memory layout.

        Its weights depend on the run's seed, the network and the ``role`` alone, so that no other
        part of a method can move them. ``network``: a name, "student" for the student's
        architecture, "pair" for that of the column's teacher.
        """
        named = {STUDENT: self.student.name, PAIR: self.pair}.get(network, network)
        if named is None:
            raise UserError("no teacher's architecture is given, which 'pair' stands for")
        if self.make is None:
            return build_model(named, self.num_classes)
        return self.make(role, named)

    def tail(self, role: str, stage: int) -> Tail:
        """Return a fresh copy of what follows the student's ``stage`` (0 is the stem).

        Its images are that stage's maps, ``step.student.stages[stage]``. UserError for a student
        that cannot be cut there.
        """
        network = self.build(role)
        network.check_stage(stage)
        return Tail(network, stage, self.student.features.stages[stage].detach().float())


def _features(model: Model, images: Tensor) -> Features:
    return model.features(images)


class Step(NamedTuple):
    """One batch as a method's loss sees it.

    images [B, C, H, W], labels [B], indices [B] (positions in the training set); ``epoch``
    counts from 1 (during a first stage: from 1 to ``prepare_epochs``); teacher outputs carry
    no gradient. ``targets`` [B, K]: if images are mixed, their mixed and smoothed labels.
    ``companions``: one for each that the method declares, in its order (none in a
    first stage; the batch before the very first step has no image). A run without images gets
    tensors without images, and no features.

    ``run(model, images)``: the features of any network in the run's precision and layout, images
    being of any layout. In train mode every pass moves batch statistics, in the order that the
    method asks for them.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    student: Features
    teacher: Features | None
    epoch: int
    student_head: nn.Linear
    teacher_head: nn.Linear | None
    targets: Tensor | None = None
    companions: tuple[Batch, ...] = ()
    run: Callable[[Model, Tensor], Features] = _features

    def need_teacher(self) -> Features:
        """Return the teacher's features; a programmer's error if there are none."""
        assert self.teacher is not None, "this method needs a teacher"
        return self.teacher


# What stands in for features that were not computed.
NO_FEATURES = Features(torch.empty(0), torch.empty(0), (), ())
