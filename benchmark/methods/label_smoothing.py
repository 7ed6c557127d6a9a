"""Label smoothing: a baseline without a teacher, a little of each label on every class.

Szegedy et al. 2016, "Rethinking the Inception Architecture" (arXiv:1512.00567), section 7,
with its epsilon of 0.1. Its smoothed cross-entropy replaces the one on hard labels, so that
one's weight is 0. It equals KD from a teacher that always says 1/K (Yuan et al. 2020,
arXiv:1909.11723).
"""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Step
from benchmark.methods.options import MethodOptions


@full_precision
def smoothed_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Return the cross-entropy of logits [B, K] with ``smoothing / K`` moved to every class."""
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


class Options(MethodOptions):
    """How much is smoothed."""

    ce_weight: float = Field(0.0, ge=0, description="weight of the CE on the hard labels")
    weight: float = Field(1.0, ge=0, description="weight of the smoothed cross-entropy")
    smoothing: float = Field(0.1, ge=0, lt=1, description="mass taken from the label")


class LabelSmoothing(Method[Options]):
    """Cross-entropy on smoothed labels, in place of the one on hard labels."""

    needs_teacher = False

    def loss(self, step: Step) -> Tensor:
        """Return the weighted smoothed cross-entropy."""
        options = self.options
        smoothed = smoothed_cross_entropy(step.student.logits, step.labels, options.smoothing)
        return options.weight * smoothed
