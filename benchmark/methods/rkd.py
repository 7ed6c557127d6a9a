"""Relational knowledge distillation (RKD): match distances and angles between samples.

Park et al. 2019, "Relational Knowledge Distillation" (arXiv:1904.05068), equations 4 to 9,
on the pooled features. Weights 25 (distance) and 50 (angle), the paper's ratio of 1 to 2, are
those of Tian et al. 2020 (CRD); as there the means run over all B x B and B x B x B entries,
the zeros of coinciding samples included. The thesis' Relative KD is another method
(relative_kd).

Two samples in one place have no direction: angles at them are 0 and pass no gradient. (A plain
normalisation would pass gradients of 1e12 there.)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Step
from benchmark.methods.options import MethodOptions

EPS = 1e-12
CLOSE = 1e-13  # closer than float32 tells apart, and further than float64 errs


def distances(features: Tensor) -> Tensor:
    """Return the Euclidean distances [B, B] of [B, D], divided by the mean of the positive ones.

    The square of a distance is at least 1e-12 off the diagonal.
    """
    squares = features.square().sum(1)
    products = features @ features.T
    squared = (squares[:, None] + squares[None, :] - 2.0 * products).clamp(min=EPS)
    same = torch.eye(len(features), dtype=torch.bool, device=features.device)
    distance = squared.sqrt().masked_fill(same, 0.0)
    count = (distance > 0).sum()
    mean = distance.sum() / count.clamp(min=1)
    return distance / torch.where(count > 0, mean, 1.0)  # a batch of one has no distances


def angles(features: Tensor) -> Tensor:
    """Return the cosines [B, B, B]: entry [i, j, k] is the angle at i between j and k.

    By way of the inner products [B, B], in float64: no differences [B, B, D] are ever formed, and
    the gradient comes closer to the exact one than by differences in float32.
    """
    exact = features.double()
    centred = exact - exact.mean(0)
    inner = centred @ centred.T
    squares = centred.square().sum(1)
    sums = squares[:, None] + squares[None, :]
    squared = sums - 2.0 * inner  # the distances' squares [B, B]
    towards = squares[:, None] - inner  # [i, j]: the product of i and what leads from j to i
    products = inner[None, :, :] + towards[:, :, None] - inner[:, None, :]
    apart = squared > CLOSE * sums
    inverse = torch.where(apart, squared, 1.0).rsqrt() * apart
    return (products * inverse[:, :, None] * inverse[:, None, :]).to(features.dtype)


@full_precision
def distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the smooth L1 difference of relative distances, for [B, D] of any two D."""
    return F.smooth_l1_loss(distances(student), distances(teacher))


@full_precision
def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the smooth L1 difference of angles, for [B, D] of any two D."""
    return F.smooth_l1_loss(angles(student), angles(teacher))


class Options(MethodOptions):
    """Options of relational knowledge distillation."""

    weight: float = Field(1.0, ge=0, description="weight of both terms together")
    distance_weight: float = Field(25.0, ge=0, description="weight of the distance term")
    angle_weight: float = Field(50.0, ge=0, description="weight of the angle term")


class RKD(Method[Options]):
    """Distances and angles of the pooled features."""

    relational = True
    version = 2
    teacher_maps = ("pooled",)

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return the weighted distance and angle terms."""
        options = self.options
        student, teacher = step.student.pooled, step.need_teacher().pooled
        return {
            "distance": options.weight * options.distance_weight * distance_loss(student, teacher),
            "angle": options.weight * options.angle_weight * angle_loss(student, teacher),
        }
