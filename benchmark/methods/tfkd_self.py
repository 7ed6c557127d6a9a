"""Tf-KD from itself: distillation from a finished run of the same network.

Yuan et al. 2020, "Revisiting Knowledge Distillation via Label Smoothing Regularization"
(arXiv:1909.11723), section 5.1: (1 - alpha) CE + alpha KD. The code
(yuanli2333/Teacher-free-Knowledge-Distillation@d000ab3) takes the mean of the divergence over
samples and classes, times T^2 and a multiplier, so that its weight depends on the number of
classes; the defaults are its ResNet-18 ones on CIFAR-100 (alpha 0.95, temperature 6, multiplier
50), which differ from network to network. The column's teacher must be the student's own
architecture, or the row is another method.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from benchmark.methods._peers import divergence
from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Step
from benchmark.methods.options import MethodOptions


@full_precision
def tfkd_self_loss(
    student: Tensor, teacher: Tensor, temperature: float, multiplier: float
) -> Tensor:
    """Return m T^2 KL(teacher || student) / K, averaged over the batch, of logits [B, K]."""
    return multiplier * divergence(student, teacher, temperature) / student.shape[1]


class Options(MethodOptions):
    """Weights and temperature of the copy's answers."""

    alpha: float = Field(0.95, ge=0, le=1, description="weight of the copy; 1 - alpha on labels")
    temperature: float = Field(6.0, gt=0, description="divides both networks' logits")
    multiplier: float = Field(50.0, ge=0, description="of the mean over samples and classes")

    @property
    def ce_weight(self) -> float:
        """Weight of the cross-entropy on the labels."""
        return 1.0 - self.alpha


class TfKDSelf(Method[Options]):
    """Teacher-free distillation from a trained copy of the network."""

    teacher_maps = ()

    def loss(self, step: Step) -> Tensor:
        """Return the weighted divergence from the copy."""
        options = self.options
        teacher = step.need_teacher().logits
        distance = tfkd_self_loss(
            step.student.logits, teacher, options.temperature, options.multiplier
        )
        return options.alpha * distance
