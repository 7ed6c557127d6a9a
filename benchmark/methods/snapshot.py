"""Snapshot distillation: the network at the end of a cycle teaches the next cycle.

Yang et al. 2019, "Snapshot Distillation: Teacher-Student Optimization in One Generation"
(arXiv:1812.00123), equation 5: the rate falls by a cosine in every cycle; what stands at the end of
one teaches the whole of the next, and the first has no teacher. The loss is asymmetric: the
TEACHER alone is softened, (1 + 1/T) CE + soft cross-entropy, T 3, no T^2. There is no authors'
code; the recipe's schedule has the cycles (``kind: cosine, cycles: N``). Cycles are whole epochs
here, so they must divide them; a public re-implementation counts steps. A survey prints one minus
sign before the whole loss (the teacher would repel) and no temperature; its repaired form is
``symmetric: true`` with temperature 1.

The copy (weights and batch statistics, eval mode, no gradient) is in the checkpoint.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods._peers import divergence
from benchmark.methods._precision import full_precision
from benchmark.methods._self_losses import snapshot_loss, teacher_epoch
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions, Planned
from benchmark.models.parts import Frozen


@full_precision
def symmetric_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(teacher || student) of logits [B, K], both softened."""
    return divergence(student, teacher.detach(), temperature)


class Options(MethodOptions):
    """Cycles, temperature and weight."""

    cycles: int = Field(4, ge=2, description="snapshots; they must divide the epochs")
    weight: float = Field(1.0, ge=0, description="weight of the snapshot's answers")
    temperature: float = Field(3.0, gt=0, description="divides the snapshot's logits")
    symmetric: bool = Field(False, description="soften the student, too, with T^2, and CE at 1")

    def refuse(self, planned: Planned) -> str | None:
        """Refuse cycles that do not divide the epochs, or are not those of the rate."""
        if planned.epochs % self.cycles:
            return (
                f"has {self.cycles} cycles, which do not divide {planned.epochs} epochs; set"
                " snapshot.cycles or recipe.epochs"
            )
        if planned.rate_cycles not in (1, self.cycles):
            return (
                f"has {self.cycles} cycles, and the learning rate {planned.rate_cycles}; set"
                " snapshot.cycles or recipe.schedule.cycles"
            )
        return None


class Snapshot(Method[Options]):
    """A frozen copy of the student, renewed at the end of every cycle."""

    needs_teacher = False

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self._epochs = setup.epochs
        self._student = (setup.student.model,)
        self.copy = Frozen(setup.student.model)

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return the snapshot's answers and the further weight on the labels they come with."""
        options, student = self.options, step.student.logits
        if not self._taken_after(step.epoch):
            return {"snapshot": 0.0 * student.float().mean()}
        with torch.no_grad():
            teacher = step.run(self.copy, step.images).logits
        if options.symmetric:
            value = symmetric_loss(student, teacher, options.temperature)
            return {"snapshot": options.weight * value}
        labels = F.cross_entropy(student, step.labels) / options.temperature
        value = snapshot_loss(student, teacher, options.temperature)
        return {"labels": labels, "snapshot": options.weight * value}

    def end_epoch(self, epoch: int, held_out: dict[str, Tensor] | None) -> None:
        """Take a new copy if a cycle ends."""
        if self._taken_after(epoch + 1) == epoch:
            self.copy.renew(self._student[0])

    def _taken_after(self, epoch: int) -> int:
        return teacher_epoch(epoch, self._epochs, self.options.cycles)
