"""Logit regression: match the teacher's raw logits by their squared difference.

Ba & Caruana 2014, "Do Deep Nets Really Need to be Deep?" (arXiv:1312.6184), equation 1, after
Bucilua et al. 2006: 1/(2N) sum of squared differences, no labels. ``reduction: mean`` with weight
0.1 beside the labels is the form of AberHu/Knowledge-Distillation-Zoo@65470c8, a mean over
samples and classes: of K classes the same weight means K/2 times less there.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Step
from benchmark.methods.options import MethodOptions


@full_precision
def half_squared_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return half the squared distance of logits [B, K], averaged over the batch."""
    return (student - teacher).square().sum(1).mean() / 2


@full_precision
def mean_squared_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared difference of logits [B, K], averaged over samples and classes."""
    return (student - teacher).square().mean()


class Options(MethodOptions):
    """Weights, and what is averaged."""

    ce_weight: float = Field(0.0, ge=0, description="weight of the cross-entropy on the labels")
    weight: float = Field(1.0, ge=0, description="weight of the regression")
    reduction: Literal["half_sum", "mean"] = Field(
        "half_sum", description="half the sum over classes (the paper), or their mean"
    )


class LogitRegression(Method[Options]):
    """Squared difference of logits."""

    teacher_maps = ()

    def loss(self, step: Step) -> Tensor:
        """Return the weighted squared difference."""
        options = self.options
        form = half_squared_loss if options.reduction == "half_sum" else mean_squared_loss
        return options.weight * form(step.student.logits, step.need_teacher().logits)
