"""BinaryKL: every class as its own yes-or-no question, matched by a two-outcome divergence.

Yang et al. 2024, "Dual-Head Knowledge Distillation" (arXiv:2411.08937): the logit-level loss
before its normalised form (binaryklnorm), here on the student's only head: the combination
with cross-entropy that the paper shows to collapse. Its code defines this loss and never
trains with it, so weight 1 and temperature 2 are those of the published dhkd command.

The reference clamps probabilities to [1e-8, 1 - 1e-8]. In float32 the upper bound rounds to 1
and its logarithm to minus infinity; here the clamp acts on the logit, which is the same in
exact arithmetic and finite in every precision.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Step
from benchmark.methods.options import MethodOptions

# The logit whose sigmoid is 1 - 1e-8.
LOGIT_LIMIT = math.log1p(-1e-8) - math.log(1e-8)


@full_precision
def binarykl_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 times the sum over classes of KL(sigmoid(t / T) || sigmoid(s / T)).

    Logits [B, K]; averaged over the batch. The gradient is zero if the clamp is active.
    """
    s = (student / temperature).clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
    t = (teacher / temperature).clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
    yes = t.sigmoid() * (F.logsigmoid(t) - F.logsigmoid(s))
    no = (-t).sigmoid() * (F.logsigmoid(-t) - F.logsigmoid(-s))
    return temperature**2 * (yes + no).sum(1).mean()


class Options(MethodOptions):
    """Weights and temperature."""

    ce_weight: float = Field(1.0, ge=0, description="weight of the cross-entropy on the labels")
    weight: float = Field(1.0, ge=0, description="weight of the distillation term")
    temperature: float = Field(2.0, gt=0, description="divides both networks' logits")


class BinaryKL(Method[Options]):
    """BinaryKL on the student's own logits."""

    teacher_maps = ()

    def loss(self, step: Step) -> Tensor:
        """Return the weighted sum of two-outcome divergences."""
        options = self.options
        teacher = step.need_teacher()
        distance = binarykl_loss(step.student.logits, teacher.logits, options.temperature)
        return options.weight * distance
