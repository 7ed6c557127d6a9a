"""The thesis' Vanilla KD: one alpha splits the loss between the labels and the teacher.

The same loss as ``kd``, in the thesis' parameters (equations 2, 45, 48; see the options), so
that a grid over alpha moves both weights.
"""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods._precision import full_precision
from benchmark.methods._thesis import LogBase, vanilla_divergence
from benchmark.methods.base import Method, Step
from benchmark.methods.options import AlphaOptions


@full_precision
def vanilla_loss(
    student: Tensor,
    teacher: Tensor,
    temperature: float,
    squared: bool = True,
    log_base: LogBase = "e",
) -> Tensor:
    """Return the divergence of logits [B, K] from the teacher's softened probabilities."""
    teacher_probs = F.softmax(teacher / temperature, dim=1)
    return vanilla_divergence(student, teacher_probs, temperature, squared, log_base)


class Options(AlphaOptions):
    """Temperature, and how alpha and it enter."""

    temperature: float = Field(2.0, gt=0, description="divides both networks' logits")


class VanillaKD(Method[Options]):
    """KD with the thesis' alpha."""

    teacher_maps = ()

    def loss(self, step: Step) -> Tensor:
        """Return the weighted divergence."""
        options = self.options
        divergence = vanilla_loss(
            step.student.logits,
            step.need_teacher().logits,
            options.temperature,
            options.temperature_squared,
            options.log_base,
        )
        return options.kd_weight * divergence
