"""Tf-KD by a hand-made teacher: regularisation towards an ideal one that is always right.

Yuan et al. 2020, "Revisiting Knowledge Distillation via Label Smoothing Regularization"
(arXiv:1909.11723), section 5.2. The code (yuanli2333/Teacher-free-Knowledge-Distillation@d000ab3)
gives the label 0.99 and shares the rest, and then takes a softmax of these PROBABILITIES at
temperature 20, which makes them almost uniform; the student is not softened and the mean goes over
samples and classes. Both are kept. Defaults: its ResNet-18 ones on CIFAR-100 (alpha 0.1,
multiplier 100).
"""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods._logits import label_mask
from benchmark.methods._peers import divergence_from
from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Step
from benchmark.methods.options import MethodOptions


def ideal_probs(labels: Tensor, like: Tensor, correct: float, temperature: float) -> Tensor:
    """Return the hand-made teacher's softened answer for labels [B], of the form of [B, K]."""
    hot = label_mask(like, labels).to(like.dtype)
    rest = (1 - correct) / (like.shape[1] - 1)
    return F.softmax((hot * (correct - rest) + rest) / temperature, 1)


@full_precision
def tfkd_reg_loss(
    student: Tensor, labels: Tensor, temperature: float, multiplier: float, correct: float = 0.99
) -> Tensor:
    """Return m KL(ideal || student) / K, averaged over the batch, of logits [B, K]."""
    probs = ideal_probs(labels, student, correct, temperature)
    return multiplier * divergence_from(student, probs) / student.shape[1]


class Options(MethodOptions):
    """The hand-made teacher, and what it weighs."""

    alpha: float = Field(0.1, ge=0, le=1, description="weight of the teacher; 1 - alpha on labels")
    temperature: float = Field(20.0, gt=0, description="of the second softmax, on probabilities")
    multiplier: float = Field(100.0, ge=0, description="of the mean over samples and classes")
    correct: float = Field(0.99, gt=0, lt=1, description="probability of the label")

    @property
    def ce_weight(self) -> float:
        """Weight of the cross-entropy on the labels."""
        return 1.0 - self.alpha


class TfKDReg(Method[Options]):
    """Teacher-free distillation from a hand-made teacher."""

    needs_teacher = False

    def loss(self, step: Step) -> Tensor:
        """Return the weighted divergence from the ideal teacher."""
        options = self.options
        distance = tfkd_reg_loss(
            step.student.logits,
            step.labels,
            options.temperature,
            options.multiplier,
            options.correct,
        )
        return options.alpha * distance
