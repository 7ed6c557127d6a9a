"""Activation boundaries (AB): pretrain the student to fire where the teacher's neurons fire.

Heo et al. 2019, "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden
Neurons" (arXiv:1811.03233), equation 5: a squared hinge on pre-activations around the
teacher's sign, with margin 1, on all stages but the stem, deeper stages twice the weight of the
one before. A first stage trains the student's body and its connectors with this loss alone; the
main stage is plain cross-entropy.

As in Tian et al. 2020 (CRD), which published the numbers: 30 epochs at the recipe's learning
rate, the loss divided by the batch and scaled by 3/1000, connectors only if shapes differ.
A wide ResNet's final batch norm is no part of the first stage there, neither trained nor
normalising: the last pre-activation is then the stage itself, over sqrt(1 + 1e-5), and so it is
here. Their code stops if the networks differ in their number of stages; here stages without
a partner are left out. MobileNetV2's stages end without an activation, so they are their own
pre-activations, as there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from benchmark.methods._connectors import ConvReg
from benchmark.methods._first_stage import body_parameters
from benchmark.methods._maps import need_maps, stage_pairs
from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions
from benchmark.models.features import Features, Model

SCALE = 3.0 / 1000.0
# What a fresh batch norm in eval mode divides by: running variance 1, eps 1e-5.
INERT_BATCH_NORM = math.sqrt(1.0 + 1e-5)


@full_precision
def ab_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], margin: float = 1.0) -> Tensor:
    """Return the weighted sum over stages; pre-activations [B, C, H, W] of equal shapes."""
    terms = []
    for depth, (s, t) in enumerate(zip(student, teacher, strict=True), start=1):
        below = torch.where(t > 0, margin - s, s + margin).clamp(min=0)
        terms.append(2.0 ** (depth - len(student)) * below.square().sum())
    return torch.stack(terms).sum() * (SCALE / len(student[0]))


class Options(MethodOptions):
    """Options of activation boundaries."""

    margin: float = Field(1.0, ge=0, description="distance to keep from the boundary")
    prepare_epochs: int = Field(30, ge=0, description="epochs of the first stage")


class AB(Method[Options]):
    """A first stage on activation boundaries; nothing afterwards."""

    teacher_maps = ("preacts",)

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        student, teacher = setup.student, setup.need_teacher()
        need_maps("ab", student, teacher)
        self._wide_resnet = student.name.startswith("wrn_")
        # Trainable in the first stage only, so that the main optimiser never takes them.
        self.connectors = nn.ModuleList(
            nn.Identity() if s.shape == t.shape else ConvReg(s.shape, t.shape, relu=False)
            for s, t in stage_pairs(student.features.preacts[1:], teacher.features.preacts[1:])
        ).requires_grad_(False)

    def loss(self, step: Step) -> Tensor:
        """Return zero: the main stage learns from the labels alone."""
        return step.student.logits.new_zeros(())

    @property
    def prepare_epochs(self) -> int:
        """Epochs of the first stage."""
        return self.options.prepare_epochs

    def prepare_parameters(self, student: Model) -> Sequence[nn.Parameter]:
        """Return the connectors' parameters, made trainable, and the student's body."""
        connectors = self.connectors.requires_grad_(True)
        return [*connectors.parameters(), *body_parameters(student)]

    def prepare_loss(self, step: Step) -> Tensor:
        """Return the boundary loss."""
        pairs = stage_pairs(self._student_preacts(step.student), step.need_teacher().preacts[1:])
        connected = [c(s) for c, (s, _) in zip(self.connectors, pairs, strict=True)]
        return ab_loss(connected, [t for _, t in pairs], self.options.margin)

    def _student_preacts(self, student: Features) -> list[Tensor]:
        *inner, last = student.preacts[1:]
        return [*inner, student.stages[-1] / INERT_BATCH_NORM if self._wide_resnet else last]

    def prepared(self) -> None:
        """Fix the connectors, which have no part in the main stage."""
        self.connectors.requires_grad_(False)
