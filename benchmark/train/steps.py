"""How a run takes one step: what its methods are given, and who moves by their terms."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.data.batches import Batch
from benchmark.methods.seen import NO_FEATURES, Step
from benchmark.models.features import Features
from benchmark.table.recipe import Recipe
from benchmark.train.first_stage import FirstStage
from benchmark.train.losses import AnyMethod, Further, MicroBatch, Objective
from benchmark.train.network import Network
from benchmark.train.players import Players
from benchmark.train.sums import Sums


class Networks(NamedTuple):
    """The student, the shared teacher, and a run's own copy of it in train mode."""

    student: Network
    teacher: Network | None
    private: Network | None


class Given(NamedTuple):
    """A batch, the shared teacher's features of it, the step's further images, and its size.

    The size is that of a full batch for a run without images.
    """

    batch: Batch
    teacher: Features | None
    further: Further | None
    size: int


class Steps:
    """Takes the steps of one run; where it stands and what is recorded is the run's own."""

    def __init__(
        self,
        networks: Networks,
        objective: Objective,
        players: Players,
        first_stage: FirstStage,
        recipe: Recipe,
        uses_images: bool,
    ) -> None:
        self._student, self._teacher, self._private = networks
        self._objective, self._players = objective, players
        self._first_stage = first_stage
        self._clip_norm = recipe.clip_norm
        self._uses_images = uses_images

    def main(self, given: Given, epoch: int, part: MicroBatch, sums: Sums) -> None:
        """Take a step of the main stage, all turns of it; its terms are added to ``sums``."""
        private = self._private_features(given.batch)
        with self._student.autocast():
            step = self._step(given.batch, given.teacher, epoch, self._uses_images)
            terms, logits = self._objective.terms(step, private, given.further)
        if self._objective.takes_turns:
            self._turns(step, private, given, terms, sums)
        else:
            players = self._players
            optimizer, parameters = players.main, players.parameters
            self._objective.step(terms, parameters, optimizer, self._clip_norm, part)
            sums.add_terms(terms, given.size)
        if self._uses_images:
            sums.add_correct(logits, given.batch)

    def _turns(
        self, step: Step, private: Features | None, given: Given, row: dict[str, Tensor], sums: Sums
    ) -> None:
        turns = self._objective.turns(step, private, given.further, row)
        while True:
            with self._student.autocast():
                turn = next(turns, None)
            if turn is None:
                return
            self._players.take(turn)
            for _, terms in turn.entries:
                sums.add_terms(terms, given.size)

    def first_stage(self, given: Given, epoch: int, sums: Sums) -> None:
        """Take the step of every method's first stage that ``epoch`` belongs to."""
        private = self._private_features(given.batch)

        def loss_of(method: AnyMethod, own_epoch: int) -> Tensor:
            taught = private if method.private_teacher else given.teacher
            shows = method.prepare_student and self._uses_images
            with self._student.autocast():
                return method.prepare_loss(self._step(given.batch, taught, own_epoch, shows))

        for index, loss in self._first_stage.losses(epoch, loss_of):
            sums.add_terms({f"first_stage.{self._objective.names[index]}": loss}, given.size)

    def _private_features(self, batch: Batch) -> Features | None:
        if self._private is None:
            return None
        with torch.no_grad():
            return self._student.reads(self._private.features(batch.images))

    def _step(self, batch: Batch, teacher: Features | None, epoch: int, student: bool) -> Step:
        images = self._student.layout(batch.images)
        model = self._student.model
        return Step(
            images=images,
            labels=batch.labels,
            indices=batch.indices,
            student=model.features(images) if student else NO_FEATURES,
            teacher=teacher,
            epoch=epoch,
            student_head=model.head,
            teacher_head=self._teacher.model.head if self._teacher else None,
            targets=batch.targets,
            run=self._student.run,
        )
