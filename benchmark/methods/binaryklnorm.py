"""BinaryKL-Norm: the difference of both logits should be zero, as a yes-or-no question.

Yang et al. 2024, "Dual-Head Knowledge Distillation" (arXiv:2411.08937): BinaryKL with both
logits shifted by the teacher's, so that the teacher says 0.5 everywhere. dhkd uses it on a
head of its own; here it acts on the student's only head, the paper's single-head ablation,
with the weight and temperature of the published dhkd command.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Step
from benchmark.methods.binarykl import binarykl_loss
from benchmark.methods.options import MethodOptions


@full_precision
def binaryklnorm_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 times the sum over classes of KL(0.5 || sigmoid((s - t) / T)).

    Logits [B, K]; averaged over the batch; clamped as in :func:`binarykl_loss`.
    """
    difference = student - teacher
    return binarykl_loss(difference, torch.zeros_like(difference), temperature)


class Options(MethodOptions):
    """Weights and temperature."""

    ce_weight: float = Field(1.0, ge=0, description="weight of the cross-entropy on the labels")
    weight: float = Field(1.0, ge=0, description="weight of the distillation term")
    temperature: float = Field(2.0, gt=0, description="divides the difference of the logits")


class BinaryKLNorm(Method[Options]):
    """BinaryKL-Norm on the student's own logits."""

    teacher_maps = ()

    def loss(self, step: Step) -> Tensor:
        """Return the weighted sum of two-outcome divergences from one half."""
        options = self.options
        teacher = step.need_teacher()
        distance = binaryklnorm_loss(step.student.logits, teacher.logits, options.temperature)
        return options.weight * distance
