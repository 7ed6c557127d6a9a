"""One run while it trains: networks, methods, optimiser, randomness, history.

A trainee knows nothing of the pack that it shares a process with. Its position is the next
step to take, as (epoch, step); a method's first stage runs in epochs 0, -1, ... before 1.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.data.batches import Batch
from benchmark.methods import build_method
from benchmark.methods.base import Probe, Setup, Step
from benchmark.models import build_model
from benchmark.models.features import Features, MapName
from benchmark.run.identity import SCHEMA, Run
from benchmark.train.average import Average
from benchmark.train.evaluate import Accuracy
from benchmark.train.losses import Objective, Part
from benchmark.train.network import Network
from benchmark.train.optimiser import (
    build_optimizer,
    drops_after,
    ends_early,
    learning_rate,
    undecayed,
)
from benchmark.train.rng import RunRng, seeded

# What stands in for the student's features where a first stage does not look at them.
NO_FEATURES = Features(torch.empty(0), torch.empty(0), (), ())
LAST = 5  # epochs at the end that are always evaluated, for the last-five protocols


class Evaluation(NamedTuple):
    """The accuracies after one epoch, in percent; validation is NaN without held-out images."""

    epoch: int
    top1: float
    top5: float
    loss: float
    val_top1: float


class World(NamedTuple):
    """What a trainee is told of the data: shape, labels, sizes."""

    image_shape: tuple[int, int, int]
    num_classes: int
    labels: Tensor
    steps_per_epoch: int


class Trainee:
    """Trains one run, step by step."""

    def __init__(self, run: Run, world: World, teacher: Network | None) -> None:
        self.run = run
        self.recipe = run.recipe
        self.device = run.recipe.device
        self._steps_per_epoch = world.steps_per_epoch
        with seeded(run.seed, f"init/{run.model}"):
            model = build_model(
                run.model,
                world.num_classes,
                drop_path=run.recipe.drop_path,
                image_size=run.recipe.input_size or world.image_shape[1],
            )
        self.student = Network(run.model, model, run.recipe, run.recipe.input_size)
        self.teacher = teacher
        student_probe = Probe(run.model, self.student.model, self.student.probe(world.image_shape))
        teacher_probe = None
        if teacher is not None:
            teacher_features = teacher.probe(world.image_shape)
            teacher_probe = Probe(teacher.name, teacher.model, teacher_features)
        setup = Setup(
            student=student_probe,
            teacher=teacher_probe,
            num_classes=world.num_classes,
            labels=world.labels,
            batch_size=run.recipe.batch_size,
            epochs=run.recipe.epochs,
            seed=run.seed,
        )
        self.methods = nn.ModuleList()
        for ref in run.methods:
            hooks = 0 if teacher is None else teacher.num_hooks
            with seeded(run.seed, f"method/{ref.name}"):
                self.methods.append(build_method(ref.name, setup, **ref.options))
            if teacher is not None and teacher.num_hooks > hooks:
                raise UserError(
                    f"{ref.name} hooks the teacher, but a copy of it computes the features: read"
                    " what Step.teacher holds"
                )
        self.methods.to(self.device)
        names = [ref.name for ref in run.methods]
        methods = list(self.methods)
        self.objective = Objective(
            methods,  # type: ignore[arg-type]
            names,
            run.ce_weight,
            run.predict,
            run.recipe.label_smoothing,
        )
        self.objective.check_clipping(run.recipe.clip_norm)
        self.objective.check_accumulation(run.recipe.accumulate)
        self.private_teacher = self._private_teacher()
        self.parameters = [
            p
            for p in (*self.student.model.parameters(), *self.methods.parameters())
            if p.requires_grad
        ]
        spared = undecayed(run.recipe, self.student.model)
        self.optimizer = build_optimizer(run.recipe, self.parameters, spared)
        self.average: Average | None = None
        if run.recipe.average is not None:
            self.average = Average(run.recipe.average, self.student.model, self.methods)
        self._prepare_epochs = [int(m.prepare_epochs) for m in self.objective.methods]
        self._prepare_optimizers = self._first_stage_optimizers()
        self.rng = RunRng(run.seed, "train")
        self.epoch = 1 - max(self._prepare_epochs, default=0)
        self.step = 0
        self.history: list[Evaluation] = []
        self.ended_early = False
        self.diverged_at: int | None = None
        self._sums: dict[str, Tensor] = {}
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
    def needs_teacher(self) -> bool:
        """Whether the next step needs the shared teacher's features."""
        return any(m.needs_teacher and not m.private_teacher for m in self.objective.methods)

    @property
    def teacher_maps(self) -> frozenset[MapName]:
        """Which maps of the shared teacher's features the losses read."""
        sharing = (m for m in self.objective.methods if m.needs_teacher and not m.private_teacher)
        return frozenset(name for method in sharing for name in method.teacher_maps)

    @property
    def lr(self) -> float:
        """The learning rate of the current epoch."""
        accumulate = self.recipe.accumulate
        return learning_rate(
            self.recipe,
            max(1, self.epoch),
            self._schedule_accuracies(),
            self.step // accumulate,
            -(-self._steps_per_epoch // accumulate),
        )

    @property
    def _accumulating(self) -> bool:
        """Whether gradients of earlier batches wait in the parameters for the next ones."""
        return self.step % self.recipe.accumulate != 0

    def evaluates(self) -> bool:
        """Whether the epoch that just ended is evaluated."""
        if self.epoch < 1:
            return False
        last = self.epoch > self.recipe.epochs - LAST
        return last or self.epoch % self.recipe.eval_every == 0

    # -- training ---------------------------------------------------------------------------

    def train_step(self, batch: Batch, teacher: Features | None) -> None:
        """Take one optimiser step on a batch; ``teacher``: the shared teacher's features."""
        self._set_training(True)
        with self.rng.active():
            if self.epoch < 1:
                self._prepare_step(batch, teacher)
            else:
                self._main_step(batch, teacher)
        self._add("/images", torch.tensor(float(len(batch.labels)), dtype=torch.float64))
        self.step += 1
        if self.device == "cpu":
            self._look_for_divergence()

    def _main_step(self, batch: Batch, teacher: Features | None) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        private = self._private_features(batch)
        with self.student.autocast():
            step = self._make_step(batch, teacher, self.epoch)
            terms, logits = self.objective.terms(step, private)
        part = Part.of(self.step, self._steps_per_epoch, self.recipe.accumulate)
        self.objective.step(terms, self.parameters, self.optimizer, self.recipe.clip_norm, part)
        if self.average is not None and part.last:
            self.average.update(self.student.model, self.methods)
        for name, value in terms.items():
            self._add(name, value.detach().double() * len(batch.labels))
        self._add("/correct", (logits.detach().argmax(1) == batch.labels).sum().double())

    def _prepare_step(self, batch: Batch, teacher: Features | None) -> None:
        private = self._private_features(batch)
        for index, optimizer in self._prepare_optimizers.items():
            epoch = self.epoch + self._prepare_epochs[index]
            if epoch < 1:
                continue
            method = self.objective.methods[index]
            seen = private if method.private_teacher else teacher
            with self.student.autocast():
                step = self._make_step(batch, seen, epoch, method.prepare_student)
                loss = method.prepare_loss(step)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            total = loss.detach().double() * len(batch.labels)
            self._add(f"first_stage.{self.objective.names[index]}", total)

    def _private_features(self, batch: Batch) -> Features | None:
        if self.private_teacher is None:
            return None
        with torch.no_grad():
            return self.student.reads(self.private_teacher.features(batch.images))

    def _make_step(
        self, batch: Batch, teacher: Features | None, epoch: int, student: bool = True
    ) -> Step:
        images = self.student.layout(batch.images)
        return Step(
            images=images,
            labels=batch.labels,
            indices=batch.indices,
            student=self.student.model.features(images) if student else NO_FEATURES,
            teacher=teacher,
            epoch=epoch,
            student_head=self.student.model.head,
            teacher_head=self.teacher.model.head if self.teacher else None,
            targets=batch.targets,
        )

    def _add(self, name: str, value: Tensor) -> None:
        # Sums stay on the device until the epoch ends.
        self._sums[name] = self._sums[name] + value if name in self._sums else value

    def _set_training(self, training: bool) -> None:
        # Walking the modules costs as much as a small layer, so only when the mode changes.
        if self._training is not training:
            self.student.model.train(training)
            self.methods.train(training)
            self._training = training

    def _look_for_divergence(self) -> None:
        if any(not math.isfinite(v.item()) for v in self._sums.values()):
            self.diverged_at = self.epoch

    # -- the end of an epoch ----------------------------------------------------------------

    def end_epoch(
        self,
        accuracy: Accuracy | None,
        validation: Accuracy | None,
        average: Accuracy | None = None,
    ) -> dict[str, Any]:
        """Close the epoch and return its record; moves on to the next epoch.

        ``average``: of the averaged weights, which are noted beside the trained ones' alone.
        """
        self._look_for_divergence()
        sums = {name: value.item() for name, value in self._sums.items()}
        images = sums.pop("/images", 0.0)
        correct = sums.pop("/correct", None)
        record: dict[str, Any] = {
            "schema": SCHEMA,
            "epoch": self.epoch,
            "lr": self.lr,
            "losses": {name: _finite(total / max(images, 1.0)) for name, total in sums.items()},
            "train_top1": None if correct is None else 100 * correct / max(images, 1.0),
        }
        if accuracy is not None:
            if not math.isfinite(accuracy.loss):
                self.diverged_at = self.epoch
            value = math.nan if validation is None else validation.top1
            found = Evaluation(self.epoch, accuracy.top1, accuracy.top5, accuracy.loss, value)
            self.history.append(found)
            record |= {
                "test_top1": accuracy.top1,
                "test_top5": accuracy.top5,
                "test_loss": _finite(accuracy.loss),
                "val_top1": None if validation is None else validation.top1,
            }
        if average is not None:
            record |= {
                "average_top1": average.top1,
                "average_top5": average.top5,
                "average_loss": _finite(average.loss),
            }
        if self.diverged_at is not None:
            record["diverged"] = True
        self.ended_early = ends_early(self.recipe, self._schedule_accuracies())
        self._sums = {}
        self.epoch, self.step = self.epoch + 1, 0
        self._leave_first_stage()
        return record

    def keeps_checkpoint(self) -> bool:
        """Whether the checkpoint at this epoch's start is one to keep (the rate drops here)."""
        if not self.recipe.keep_drops or self.step != 0 or self.epoch <= 1:
            return False
        after = self._schedule_accuracies()
        evaluated = bool(self.history) and self.history[-1].epoch == self.epoch - 1
        before = after[:-1] if evaluated else after
        return drops_after(self.recipe, self.epoch - 1, before, after)

    def predict(self, images: Tensor) -> Tensor:
        """Return the evaluated logits [B, K]; call :meth:`eval` first."""
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

    def eval(self) -> None:
        """Put the student and its methods in eval mode."""
        self._set_training(False)

    # -- state ------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return everything that a resume needs: tensors, numbers and strings."""
        return {
            "schema": SCHEMA,
            "key": self.run.key,
            "epoch": self.epoch,
            "step": self.step,
            "student": self.student.model.state_dict(),
            "methods": self.methods.state_dict(),
            "private_teacher": self.private_teacher.model.state_dict()
            if self.private_teacher
            else None,
            "optimizer": self.optimizer.state_dict(),
            "prepare_optimizers": {i: o.state_dict() for i, o in self._prepare_optimizers.items()}
            if self.epoch < 1
            else {},
            "average": self.average.state() if self.average else None,
            "gradients": [p.grad for p in self.parameters] if self._accumulating else None,
            "rng": self.rng.state(),
            "sums": dict(self._sums),
            "history": [list(item) for item in self.history],
            "ended_early": self.ended_early,
            "diverged_at": self.diverged_at,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self.student.model.load_state_dict(state["student"])
        self.methods.load_state_dict(state["methods"])
        if self.private_teacher is not None:
            self.private_teacher.model.load_state_dict(state["private_teacher"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load(state["average"])
        if state.get("gradients") is not None:
            for parameter, gradient in zip(self.parameters, state["gradients"], strict=True):
                parameter.grad = None if gradient is None else gradient.to(parameter.device)
        for index, saved in state["prepare_optimizers"].items():
            self._prepare_optimizers[index].load_state_dict(saved)
        self.rng.load(state["rng"])
        self._sums = {name: value.to(self.device) for name, value in state["sums"].items()}
        self.history = [Evaluation(*item) for item in state["history"]]
        self.ended_early = state["ended_early"]
        self.diverged_at = state["diverged_at"]
        self.epoch, self.step = state["epoch"], state["step"]
        for index, epochs in enumerate(self._prepare_epochs):
            if epochs and self.epoch >= 1:
                self.objective.methods[index].prepared()

    # -- construction -----------------------------------------------------------------------

    def _private_teacher(self) -> Network | None:
        if not any(method.private_teacher for method in self.objective.methods):
            return None
        assert self.teacher is not None
        with torch.no_grad():
            model = copy.deepcopy(self.teacher.model)
        model.requires_grad_(False)
        network = Network(self.teacher.name, model, self.run.recipe, self.teacher.input_size)
        network.model.train()
        return network

    def _first_stage_optimizers(self) -> dict[int, torch.optim.Optimizer]:
        found = {}
        for index, method in enumerate(self.objective.methods):
            if self._prepare_epochs[index]:
                parameters = method.prepare_parameters(self.student.model)
                rate = {"lr": method.prepare_lr(self.recipe.lr)}
                recipe = self.recipe.model_copy(update=rate)
                found[index] = build_optimizer(recipe, parameters)
        return found

    def _leave_first_stage(self) -> None:
        if self.epoch == 1:
            for index, epochs in enumerate(self._prepare_epochs):
                if epochs:
                    self.objective.methods[index].prepared()

    def _schedule_accuracies(self) -> Sequence[float]:
        return [e.top1 if math.isnan(e.val_top1) else e.val_top1 for e in self.history]


def _finite(value: float) -> float | None:
    """JSON has no NaN; a diverged loss is recorded as null."""
    return value if math.isfinite(value) else None
