"""Decoupled KD: the target class and the other classes are distilled with weights of their own.

Zhao et al. 2022, "Decoupled Knowledge Distillation" (arXiv:2203.08679), equations 5 to 8.
Beta is published per pair (8.0 is that of resnet32x4 -> resnet8x4; 2.0 and 6.0 elsewhere);
the tables set it. ImageNet uses temperature 1, beta 0.5 or 2.0 and no warm-up.

The reference takes the logarithm of summed probabilities, which is minus infinity where they
underflow; here the sums are taken in log space: the same numbers, finite at any logits.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods._logits import kl_per_sample, label_mask
from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Step
from benchmark.methods.options import MethodOptions

# Subtracted from the target's softened logit: the reference's way of removing the class.
TARGET_OFFSET = 1000.0


def _binary_log_probs(softened: Tensor, mask: Tensor) -> Tensor:
    """Return log(p_target, 1 - p_target) [B, 2] of softened logits [B, K]."""
    log_probs = F.log_softmax(softened, dim=1)
    target = log_probs.masked_fill(~mask, -torch.inf).logsumexp(1)
    others = log_probs.masked_fill(mask, -torch.inf).logsumexp(1)
    return torch.stack([target, others], dim=1)


@full_precision
def tckd_loss(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL between (p_target, 1 - p_target) of both, averaged over the batch."""
    mask = label_mask(student, labels)
    student_log_probs = _binary_log_probs(student / temperature, mask)
    teacher_log_probs = _binary_log_probs(teacher / temperature, mask)
    distance = teacher_log_probs.exp() * (teacher_log_probs - student_log_probs)
    return temperature**2 * distance.sum(1).mean()


@full_precision
def nckd_loss(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL among the classes other than the target, averaged over the batch.

    The target's softened logit is lowered by 1000 in both, as in the reference: at any
    ordinary logits its probability is then exactly zero.
    """
    offset = TARGET_OFFSET * label_mask(student, labels)
    student_log_probs = F.log_softmax(student / temperature - offset, dim=1)
    teacher_probs = F.softmax(teacher / temperature - offset, dim=1)
    return temperature**2 * kl_per_sample(student_log_probs, teacher_probs).mean()


class Options(MethodOptions):
    """Weights, temperature and warm-up."""

    ce_weight: float = Field(1.0, ge=0, description="weight of the cross-entropy on the labels")
    alpha: float = Field(1.0, ge=0, description="weight of the target-class term")
    beta: float = Field(8.0, ge=0, description="weight of the other classes' term; set per pair")
    temperature: float = Field(4.0, gt=0, description="divides both networks' logits")
    warmup_epochs: int = Field(
        20, ge=0, description="both terms grow linearly over these epochs (first: 1 / warmup)"
    )


class DKD(Method[Options]):
    """DKD on the logits."""

    teacher_maps = ()

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return both terms, weighted and warmed up by whole epochs counted from 1."""
        options = self.options
        warmth = min(step.epoch / options.warmup_epochs, 1.0) if options.warmup_epochs else 1.0
        pair = (step.student.logits, step.need_teacher().logits, step.labels, options.temperature)
        return {
            "tckd": warmth * options.alpha * tckd_loss(*pair),
            "nckd": warmth * options.beta * nckd_loss(*pair),
        }
