"""How a run takes one step: what its methods are given, and who moves by their terms."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmark.data.batches import Batch
from benchmark.methods.seen import NO_FEATURES, Step
from benchmark.models.features import Features
from benchmark.table.recipe import Recipe
from benchmark.train.first_stage import LOSS, FirstStage
from benchmark.train.losses import AnyMethod, Further, MicroBatch, Objective, gradients
from benchmark.train.network import Network
from benchmark.train.players import Players
from benchmark.train.replicas import Found, Replicas
from benchmark.train.sums import CORRECT, Sums, correct


class Networks(NamedTuple):
    """The student, the shared teacher, and a run's own copy of it in train mode."""

    student: Network
    teacher: Network | None
    private: Network | None


class Given(NamedTuple):
    """A batch, the shared teacher's features of it, the step's further images, and its size.

    The size is that of a full batch for a run without images. ``weight``: which share of the step's
    images these are.
    """

    batch: Batch
    teacher: Features | None
    further: Further | None
    size: int
    weight: float = 1.0


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

    def divided(
        self,
        parts: Sequence[Given],
        at: tuple[int, int],
        part: MicroBatch,
        sums: Sums,
        replicas: Replicas,
    ) -> None:
        """Take a step of the main stage on parts of a batch, one for each replica here.

        ``at``: the epoch and the step.
        """
        players = self._players

        def compute(given: Given) -> Found:
            private = self._private_features(given.batch)
            with self._student.autocast():
                step = self._step(given.batch, given.teacher, at[0], self._uses_images)
                terms, logits = self._objective.terms(step, private, given.further)
            weighted = {name: term * given.weight for name, term in terms.items()}
            scaled = {name: term / part.batches for name, term in weighted.items()}
            found = self._objective.gradients(scaled, players.parameters)
            values = {name: term.detach() for name, term in weighted.items()}
            return Found(found, values | {CORRECT: correct(logits, given.batch)})

        size = round(parts[0].size / parts[0].weight)
        computations = [partial(compute, given) for given in parts]
        found = replicas.summed(computations, (*at, 0))
        values = dict(found.values)
        sums.add_count(values.pop(CORRECT))
        sums.add_terms(values, size)
        optimizer, parameters = players.main, players.parameters
        self._objective.apply(found.gradients, parameters, optimizer, self._clip_norm, part)

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

    def first_stage_divided(
        self, parts: Sequence[Given], at: tuple[int, int], sums: Sums, replicas: Replicas
    ) -> None:
        """Take the steps of the first stages on parts of a batch."""
        size = round(parts[0].size / parts[0].weight)

        def compute(
            given: Given, method: AnyMethod, own_epoch: int, moved: Sequence[nn.Parameter]
        ) -> Found:
            private = self._private_features(given.batch) if method.private_teacher else None
            taught = private if method.private_teacher else given.teacher
            shows = method.prepare_student and self._uses_images
            with self._student.autocast():
                step = self._step(given.batch, taught, own_epoch, shows)
                loss = method.prepare_loss(step) * given.weight
            found = gradients([loss], moved, retain_graph=False)
            return Found((found,), {LOSS: loss.detach()})

        def find(place: int, *about: Any) -> Found:
            computations = [partial(compute, given, *about) for given in parts]
            return replicas.summed(computations, (*at, place))

        for index, loss in self._first_stage.divided(at[0], find):
            sums.add_terms({f"first_stage.{self._objective.names[index]}": loss}, size)
            replicas.torn = True
        replicas.torn = False

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
