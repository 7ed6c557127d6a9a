"""Correlation congruence as published in CRD's tables (CC): match embeddings of neighbours.

Peng et al. 2019, "Correlation Congruence for Knowledge Distillation" (arXiv:1904.01802).
The form here is that of Tian et al. 2020 (CRD), which published the numbers: two linear
embeddings of 128 dimensions, of the student's and of the teacher's pooled feature, both trained,
and the product of the absolute differences of consecutive samples of the batch instead of the
paper's kernel expansion (equation 9); weight 0.02.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions


@full_precision
def cc_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over consecutive samples of sum_d |s - t|_d * |s - t|'_d, for [B, D].

    Zero for a batch of one, which has no consecutive samples.
    """
    difference = (student - teacher).abs()
    products = (difference[:-1] * difference[1:]).sum(1)
    return products.sum() / max(len(difference) - 1, 1)


class CongruenceEmbed(nn.Module):
    """A linear map of the pooled feature."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map [B, D] to [B, out_features]."""
        embedded: Tensor = self.linear(pooled)
        return embedded


class Options(MethodOptions):
    """Options of correlation congruence."""

    weight: float = Field(0.02, ge=0, description="weight of the congruence loss")
    dim: int = Field(128, gt=0, description="dimensions of both embeddings")


class CC(Method[Options]):
    """Correlation congruence of embedded pooled features."""

    relational = True
    teacher_maps = ("pooled",)

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        teacher = setup.need_teacher()
        self.embed_s = CongruenceEmbed(setup.student.features.pooled.shape[1], options.dim)
        self.embed_t = CongruenceEmbed(teacher.features.pooled.shape[1], options.dim)

    def loss(self, step: Step) -> Tensor:
        """Return the weighted congruence loss."""
        student = self.embed_s(step.student.pooled)
        teacher = self.embed_t(step.need_teacher().pooled)
        return self.options.weight * cc_loss(student, teacher)
