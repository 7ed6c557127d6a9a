"""Similarity-preserving distillation (SP): match which samples of a batch look alike.

Tung & Mori 2019, "Similarity-Preserving Knowledge Distillation" (arXiv:1907.09682),
equations 2 to 4, on the last stage; weight 3000 as in the paper and in Tian et al. 2020 (CRD).
"""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Step
from benchmark.methods.options import MethodOptions


def similarity(features: Tensor) -> Tensor:
    """Return the Gram matrix [B, B] of flattened features, each row of unit length."""
    flat = features.flatten(1)
    return F.normalize(flat @ flat.T, dim=1)


@full_precision
def sp_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over B x B of squared differences of similarities.

    Features are [B, ...]; the two sides may differ in all but B.
    """
    return F.mse_loss(similarity(student), similarity(teacher))


class Options(MethodOptions):
    """Options of similarity-preserving distillation."""

    weight: float = Field(3000.0, ge=0, description="weight of the similarity loss")


class SP(Method[Options]):
    """Similarity-preserving distillation of the last stage."""

    relational = True
    teacher_maps = ("stages",)

    def loss(self, step: Step) -> Tensor:
        """Return the weighted similarity loss."""
        return self.options.weight * sp_loss(
            step.student.stages[-1], step.need_teacher().stages[-1]
        )
