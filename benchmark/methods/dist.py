"""DIST: match the teacher's relations, by correlation instead of equality.

Huang et al. 2022, "Knowledge Distillation from A Stronger Teacher" (arXiv:2205.10536),
equations 6 to 10: Pearson correlation of each sample's class probabilities (inter-class) and
of each class's probabilities over the batch (intra-class). Defaults are the CIFAR-100 ones
(temperature 4); ImageNet uses temperature 1 with the same weights. The paper's weights 1, 2, 2
stand in the reference as a weight of 2 on the sum of both, and a factor T^2 that the paper
does not print.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Step
from benchmark.methods.options import MethodOptions

EPSILON = 1e-8


def pearson_distance(a: Tensor, b: Tensor) -> Tensor:
    """Return one minus the mean correlation of the rows of ``a`` and ``b`` [N, M].

    A constant row has correlation 0 and no gradient.
    """
    a = a - a.mean(1, keepdim=True)
    b = b - b.mean(1, keepdim=True)
    norms: Tensor = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    correlation: Tensor = (a * b).sum(1) / (norms + EPSILON)
    return 1.0 - correlation.mean()


@full_precision
def dist_losses(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the inter-class and the intra-class distance [2] of logits [B, K], without T^2.

    In a batch of one every class is constant, so the intra-class distance is 1.
    """
    student_probs = F.softmax(student / temperature, dim=1)
    teacher_probs = F.softmax(teacher / temperature, dim=1)
    inter = pearson_distance(student_probs, teacher_probs)
    intra = pearson_distance(student_probs.T, teacher_probs.T)
    return torch.stack([inter, intra])


def dist_loss(
    student: Tensor, teacher: Tensor, temperature: float, beta: float = 1.0, gamma: float = 1.0
) -> Tensor:
    """Return T^2 (beta * inter-class + gamma * intra-class distance) of logits [B, K]."""
    inter, intra = dist_losses(student, teacher, temperature).unbind()
    return temperature**2 * (beta * inter + gamma * intra)


class Options(MethodOptions):
    """Weights and temperature."""

    ce_weight: float = Field(1.0, ge=0, description="weight of the cross-entropy on the labels")
    weight: float = Field(2.0, ge=0, description="weight of the sum of both relations")
    beta: float = Field(1.0, ge=0, description="share of the inter-class relation")
    gamma: float = Field(1.0, ge=0, description="share of the intra-class relation")
    temperature: float = Field(4.0, gt=0, description="divides both networks' logits")


class DIST(Method[Options]):
    """DIST on the logits."""

    relational = True
    teacher_maps = ()

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return both relations, weighted."""
        options = self.options
        teacher = step.need_teacher()
        distances = dist_losses(step.student.logits, teacher.logits, options.temperature)
        inter, intra = distances.unbind()
        scale = options.weight * options.temperature**2
        return {"inter": scale * options.beta * inter, "intra": scale * options.gamma * intra}
