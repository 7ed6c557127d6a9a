"""One run while it trains: networks, methods, optimisers, randomness, history.

A trainee knows nothing of the pack that it shares a process with. Its position is the next
step to take, as (epoch, step); a method's first stage runs in epochs 0, -1, ... before 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.base.companion import Companion
from benchmark.data.batches import Batch
from benchmark.methods.base import Method
from benchmark.methods.composition import STUDENT
from benchmark.models.features import Features, MapName
from benchmark.run.identity import SCHEMA, Run
from benchmark.train.average import Average
from benchmark.train.build import (
    World,
    build_methods,
    build_objective,
    build_student,
    check_divisible,
    private_teacher,
)
from benchmark.train.crew import ALONE, Crew
from benchmark.train.evaluate import Accuracy
from benchmark.train.first_stage import FirstStage
from benchmark.train.history import Evaluated, Evaluation, Evaluations, finite
from benchmark.train.losses import AnyMethod, Further, MicroBatch
from benchmark.train.network import Network
from benchmark.train.players import Players
from benchmark.train.replicas import Replicas
from benchmark.train.rng import RunRng
from benchmark.train.steps import Given, Networks, Steps
from benchmark.train.sums import Sums

__all__ = ["Trainee", "World"]


class Trainee:
    """Trains one run, step by step."""

    def __init__(self, run: Run, world: World, teacher: Network | None, crew: Crew = ALONE) -> None:
        self.run = run
        self.recipe = run.recipe
        self.device = run.recipe.device
        self.teacher = teacher
        self.student = build_student(run, world)
        channels, height, width = world.image_shape
        side = run.recipe.input_size
        self._image_shape = (channels, side or height, side or width)
        self.methods = build_methods(run, world, self.student, teacher)
        self.objective = build_objective(run, self.methods)
        own = None if self.uses_images else run.recipe.steps_per_epoch
        self.steps_per_epoch = own or world.steps_per_epoch
        self.private_teacher = private_teacher(run, self.methods, teacher)
        row, model = self.objective.methods, self.student.model
        self.players = Players(run.recipe, model, self.methods, row)
        self.parameters, self.optimizer = self.players.parameters, self.players.main
        self.average: Average | None = None
        if run.recipe.average is not None:
            self.average = Average(run.recipe.average, model, self.methods)
        self._first_stage = FirstStage(row, model, run.recipe)
        self._steps = Steps(
            Networks(self.student, teacher, self.private_teacher),
            self.objective,
            self.players,
            self._first_stage,
            run.recipe,
            self.uses_images,
        )
        self.rng = RunRng(run.seed, "train")
        self.replicas: Replicas | None = None
        if run.recipe.replicas > 1:
            check_divisible(self.methods, run)
            networks = [self.student.model]
            if self.private_teacher is not None:
                networks.append(self.private_teacher.model)
            modules = nn.ModuleList([*networks, self.methods])
            self.replicas = Replicas(run.key, run.seed, run.recipe.replicas, crew, modules)
        self.epoch, self.step = 1 - self._first_stage.epochs, 0
        self._history = Evaluations(run.recipe)
        self.ended_early = False
        self.diverged_at: int | None = None
        self._sums = Sums()
        self._training: bool | None = None

    # -- where it stands --------------------------------------------------------------------

    @property
    def position(self) -> tuple[int, int]:
        """The next step to take, as (epoch, step)."""
        return self.epoch, self.step

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.diverged_at is not None or self.ended_early or self.epoch > self.recipe.epochs

    @property
    def history(self) -> list[Evaluation]:
        """The evaluations of the output that the table reports."""
        return self._history.reported

    @property
    def others(self) -> Mapping[str, list[Evaluation]]:
        """The evaluations of every other output, by name."""
        return self._history.others

    @property
    def averaged(self) -> Mapping[str, list[Evaluation]]:
        """The evaluations of those outputs whose mean accuracy is noted."""
        known = {**self.others, self.objective.reported: self.history}
        return {n: known[n] for m in self.objective.methods for n in m.averaged if n in known}

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return self._history.lr(self.epoch, self.step, self.steps_per_epoch)

    @property
    def _accumulating(self) -> bool:
        """Whether gradients of earlier batches wait in the parameters for the next ones."""
        return self.step % self.recipe.accumulate != 0

    def evaluates(self) -> bool:
        """Whether the epoch that just ended is evaluated."""
        return self._history.evaluates(self.epoch)

    # -- what it needs ----------------------------------------------------------------------

    @cached_property
    def uses_images(self) -> bool:
        """Whether its steps read batches at all."""
        return all(m.uses_images for m in self.objective.methods)

    @property
    def needs_teacher(self) -> bool:
        """Whether the next step needs the shared teacher's features."""
        return any(m.needs_teacher and not m.private_teacher for m in self._readers)

    @property
    def teacher_maps(self) -> frozenset[MapName]:
        """Which maps of the shared teacher's features the losses read."""
        sharing = (m for m in self._readers if m.needs_teacher and not m.private_teacher)
        return frozenset(name for method in sharing for name in method.teacher_maps)

    @property
    def _readers(self) -> list[AnyMethod]:
        return self.objective.methods if self.uses_images else []

    @property
    def companions(self) -> frozenset[Companion]:
        """The further images of the next step; a first stage has none."""
        if self.epoch < 1:
            return frozenset()
        return self._companions

    @cached_property
    def _companions(self) -> frozenset[Companion]:
        declared = (item for method in self.objective.methods for item in method.companions)
        return frozenset(Companion(*item) for item in declared)

    @cached_property
    def wants_held_out(self) -> bool:
        """Whether a method looks at the held-out images when an epoch ends."""
        return any(m.wants_held_out for m in self.objective.methods)

    # -- training ---------------------------------------------------------------------------

    def train_step(
        self, batch: Batch | None, teacher: Features | None, further: Further | None = None
    ) -> None:
        """Take one optimiser step on a batch; ``teacher``: the shared teacher's features.

        ``batch`` is None for a run without images; ``further`` holds what ``companions`` names.
        """
        self._set_training(True)
        if batch is None:
            given = Given(self.no_images, None, None, self.recipe.batch_size)
        else:
            given = Given(batch, teacher, further, len(batch.labels))
        with self.rng.active():
            if self.epoch < 1:
                self._steps.first_stage(given, self.epoch, self._sums)
            else:
                part = MicroBatch.of(self.step, self.steps_per_epoch, self.recipe.accumulate)
                self.players.set_rate(self.lr)
                self._steps.main(given, self.epoch, part, self._sums)
                if self.average is not None and part.last:
                    self.average.update(self.student.model, self.methods)
        self._sums.add_images(given.size)
        self.step += 1
        if self.device == "cpu":
            self._look_for_divergence()

    def train_parts(self, parts: Sequence[Given]) -> None:
        """Take one optimiser step on parts of a batch, one for each replica of this process."""
        assert self.replicas is not None
        self._set_training(True)
        at = self.position
        with self.rng.active():
            if self.epoch < 1:
                self._steps.first_stage_divided(parts, at, self._sums, self.replicas)
            else:
                part = MicroBatch.of(self.step, self.steps_per_epoch, self.recipe.accumulate)
                self.players.set_rate(self.lr)
                self._steps.divided(parts, at, part, self._sums, self.replicas)
                if self.average is not None and part.last:
                    self.average.update(self.student.model, self.methods)
        self._sums.add_images(round(parts[0].size / parts[0].weight))
        self.step += 1
        if self.device == "cpu":
            self._look_for_divergence()

    @cached_property
    def no_images(self) -> Batch:
        """What a run without images is given for a batch."""
        none = torch.empty(0, dtype=torch.int64, device=self.device)
        return Batch(torch.empty(0, *self._image_shape, device=self.device), none, none)

    @property
    def image(self) -> Tensor:
        """One image [1, C, H, W] of the size that the student reads, black."""
        return torch.zeros(1, *self._image_shape, device=self.device)

    def _set_training(self, training: bool) -> None:
        # Walking the modules costs as much as a small layer, so only when the mode changes.
        if self._training is not training:
            self.student.model.train(training)
            self.methods.train(training)
            self._training = training

    def _look_for_divergence(self) -> None:
        if not self._sums.finite:
            self.diverged_at = self.epoch

    # -- the end of an epoch ----------------------------------------------------------------

    def end_epoch(
        self,
        evaluated: Mapping[str, Evaluated] | None = None,
        held_out: dict[str, Tensor] | None = None,
        average: Accuracy | None = None,
    ) -> dict[str, Any]:
        """Close the epoch and return its record; moves on to the next epoch.

        ``evaluated``: every output by name, None for an epoch that is not evaluated; ``average``:
        of the averaged weights, which are noted beside the trained ones' alone.
        """
        self._look_for_divergence()
        record: dict[str, Any] = {"schema": SCHEMA, "epoch": self.epoch, "lr": self.lr}
        record |= self._sums.means()
        if evaluated:
            others = dict(evaluated)
            reported = others.pop(self.objective.reported)
            if not math.isfinite(reported.test.loss):
                self.diverged_at = self.epoch
            self._history.add(self.epoch, reported, others)
            record |= reported.to_json()
            if others:
                record["outputs"] = {name: found.to_json() for name, found in others.items()}
        if average is not None:
            record |= {
                "average_top1": average.top1,
                "average_top5": average.top5,
                "average_loss": finite(average.loss),
            }
        if self.diverged_at is not None:
            record["diverged"] = True
        else:
            self._tell_methods(held_out)
        self.ended_early = self._history.ends_early
        self._sums = Sums()
        self.epoch, self.step = self.epoch + 1, 0
        if self.epoch == 1:
            self._first_stage.leave()
        return record

    def _tell_methods(self, held_out: dict[str, Tensor] | None) -> None:
        listening = [m for m in self._in_row("end_epoch") if self.epoch >= 1]
        if listening:
            with self.rng.active(), torch.no_grad():
                for method in listening:
                    method.end_epoch(self.epoch, held_out if method.wants_held_out else None)

    def _in_row(self, hook: str) -> list[AnyMethod]:
        """Return the methods that define a hook."""
        base = getattr(Method, hook)
        return [m for m in self.objective.methods if getattr(type(m), hook) is not base]

    def keeps_checkpoint(self) -> bool:
        """Whether the checkpoint at this epoch's start is one to keep (the rate drops here)."""
        if not self.recipe.keep_drops or self.step != 0 or self.epoch <= 1:
            return False
        return self._history.drops_before(self.epoch)

    def predict(self, images: Tensor) -> Tensor:
        """Return the prediction's logits [B, K]; call :meth:`eval` first."""
        with self.student.autocast():
            features = self.student.model.features(self.student.layout(images))
            return self.objective.predict(features)

    def predict_average(self, images: Tensor) -> Tensor:
        """Return the logits [B, K] of the averaged weights."""
        assert self.average is not None
        model, methods = self.average.modules
        with self.student.autocast():
            features = model.features(self.student.layout(images))  # type: ignore[operator]
            return self.objective.predict(features, list(methods.children()))  # type: ignore[arg-type]

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Return the logits [B, K] of every evaluated output; call :meth:`eval` first."""
        if not self.objective.outputs:
            return {STUDENT: self.predict(images)}
        with self.student.autocast():
            images = self.student.layout(images)
            return self.objective.evaluated(images, self.student.model.features(images))

    def eval(self) -> None:
        """Put the student and its methods in eval mode."""
        self._set_training(False)

    @property
    def torn(self) -> bool:
        """Whether it stands in the middle of a step, which cannot be continued."""
        return self.replicas is not None and self.replicas.torn

    @property
    def buffers(self) -> list[Tensor]:
        """All that forward passes change, of the averages too, each tensor once."""
        modules = [self.student.model, self.methods]
        modules += [] if self.private_teacher is None else [self.private_teacher.model]
        modules += [] if self.average is None else list(self.average.modules)
        return list({id(b): b for module in modules for b in module.buffers()}.values())

    # -- state ------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return everything that a resume needs: tensors, numbers and strings."""
        private = self.private_teacher
        found = {
            "schema": SCHEMA,
            "key": self.run.key,
            "epoch": self.epoch,
            "step": self.step,
            "student": self.student.model.state_dict(),
            "methods": self.methods.state_dict(),
            "private_teacher": private.model.state_dict() if private else None,
            "optimizer": self.optimizer.state_dict(),
            "prepare_optimizers": self._first_stage.state() if self.epoch < 1 else {},
            "average": self.average.state() if self.average else None,
            "gradients": [p.grad for p in self.parameters] if self._accumulating else None,
            "rng": self.rng.state(),
            "sums": dict(self._sums.values),
            "history": [list(item) for item in self.history],
            "ended_early": self.ended_early,
            "diverged_at": self.diverged_at,
        }
        further = self.players.state()
        found |= {"optimizers": further} if further else {}
        others = {name: [list(item) for item in of] for name, of in self.others.items()}
        return found | ({"others": others} if others else {})

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self.student.model.load_state_dict(state["student"])
        self.methods.load_state_dict(state["methods"])
        if self.private_teacher is not None:
            self.private_teacher.model.load_state_dict(state["private_teacher"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.players.load(state.get("optimizers", {}))
        if self.average is not None:
            self.average.load(state["average"])
        if state.get("gradients") is not None:
            for parameter, gradient in zip(self.parameters, state["gradients"], strict=True):
                parameter.grad = None if gradient is None else gradient.to(parameter.device)
        self._first_stage.load(state["prepare_optimizers"])
        self.rng.load(state["rng"])
        self._sums.load(state["sums"], self.device)
        self._history.load(state["history"], state.get("others", {}))
        self.ended_early = state["ended_early"]
        self.diverged_at = state["diverged_at"]
        self.epoch, self.step = state["epoch"], state["step"]
        if self.epoch >= 1:
            self._first_stage.leave()
