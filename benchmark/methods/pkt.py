"""Probabilistic knowledge transfer (PKT): match the neighbourhoods of samples as distributions.

Passalis & Tefas 2018, "Learning Deep Representations with Probabilistic Knowledge Transfer"
(arXiv:1803.10837), equations 6 to 8 with the cosine kernel. As in the authors' code the
diagonal is kept, the divergence is a mean over B x B instead of a sum, and 1e-7 guards norms
and logarithms; weight 30,000 is that of Tian et al. 2020 (CRD).
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Step
from benchmark.methods.options import MethodOptions

EPS = 1e-7


def neighbours(features: Tensor) -> Tensor:
    """Return for each row of [B, D] the distribution [B, B] over its neighbours."""
    length: Tensor = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    unit = features / (length + EPS)
    kernel = (unit @ unit.T + 1.0) / 2.0
    return kernel / kernel.sum(1, keepdim=True)


@full_precision
def pkt_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over B x B of p_t * log(p_t / p_s), for pooled features [B, D].

    D may differ between the two. A zero vector has no direction: it counts as orthogonal to
    all others and as unlike itself.
    """
    s, t = neighbours(student), neighbours(teacher)
    # Both masses are 1, so their difference adds nothing but cancels the first-order rounding.
    return (t * ((t + EPS) / (s + EPS)).log() - t + s).mean()


class Options(MethodOptions):
    """Options of probabilistic knowledge transfer."""

    weight: float = Field(30000.0, ge=0, description="weight of the divergence")


class PKT(Method[Options]):
    """Probabilistic knowledge transfer on the pooled features."""

    relational = True
    teacher_maps = ("pooled",)

    def loss(self, step: Step) -> Tensor:
        """Return the weighted divergence."""
        return self.options.weight * pkt_loss(step.student.pooled, step.need_teacher().pooled)
