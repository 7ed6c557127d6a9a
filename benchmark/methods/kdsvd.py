"""Distillation by singular vectors (KD-SVD): match how stages' leading vectors relate.

Lee, Kim & Song 2018, "Self-supervised Knowledge Distillation Using Singular Value
Decomposition" (ECCV), sections 3.1 to 3.3: the leading right singular vectors of a stage's
map, scaled by the teacher's normalised singular values, are compared with those of the stage
before through a radial basis function; the student's vectors are those of its leading k + 3
that align best with the teacher's, with their sign.

``matrix`` says which matrix a map is. ``rows``, the default: C*H rows of W entries, as
mdistiller reshapes it. ``channels``: H*W positions by C channels, as in the paper and Tian et
al. 2020 (CRD); it needs equal channels. Neither has a number in the published tables. mdistiller
fails if the maps of a stage differ in width (every pair of different architectures); here
the larger is average-pooled first, its own rule for attention transfer. Stages without a
partner are left out.

The sign of a singular vector is arbitrary and the loss depends on it; here the entries of a
teacher's vector sum to at least 0, which for maps after a ReLU is what the published codes get
(both signs are flipped there, with the same loss). Gradients follow from first-order
perturbation of the eigenvectors of the Gram matrix and skip coinciding eigenvalues, so that
constant maps train; computed in float32 at least.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.methods._maps import need_maps, pool_to_smaller, stage_pairs
from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions

Matrix = Literal["rows", "channels"]
SURPLUS = 3  # more vectors of the student than of the teacher, to choose from
RBF_WIDTH = 8.0


def as_matrix(features: Tensor, kind: Matrix) -> Tensor:
    """Return a map [B, C, H, W] as [B, C * H, W] ("rows") or [B, H * W, C] ("channels")."""
    return features.flatten(1, 2) if kind == "rows" else features.flatten(2).mT


def eigenvectors(gram: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the leading eigenvectors [B, N, count] and eigenvalues of symmetric [B, N, N].

    Eigenvalues carry no gradient. Eigenvectors carry the exact first-order one, to the
    eigenvalues that differ by more than rounding.
    """
    with torch.no_grad():
        # One diverged run must not stop the others: the loss is still NaN through ``gram``.
        values, vectors = torch.linalg.eigh(gram.nan_to_num(0.0, 0.0, 0.0))
        values, vectors = values.flip(-1), vectors.flip(-1)
        leading = vectors[..., :count]
        gaps = values[:, None, :count] - values[:, :, None]  # [B, N, count]
        rounding = values[:, None, :1].abs() * torch.finfo(gram.dtype).eps * gram.shape[-1]
        distinct = gaps.abs() > rounding
        inverse = torch.where(distinct, 1.0 / torch.where(distinct, gaps, 1.0), 0.0)
    change = vectors.mT @ (gram - gram.detach()) @ leading  # zero, but not its gradient
    return leading + vectors @ (change * inverse), values[:, :count]


def right_singular_vectors(matrix: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the leading right singular vectors [B, N, count] and values of [B, M, N].

    The smaller of the two Gram matrices is decomposed. Vectors of singular value 0 are 0 where
    they follow from left ones.
    """
    if matrix.shape[1] < matrix.shape[2]:
        left, values = eigenvectors(matrix @ matrix.mT, count)
        right = matrix.mT @ left
        length = torch.linalg.vector_norm(right, dim=1, keepdim=True)
        tiny = torch.finfo(matrix.dtype).tiny
        vectors = right.masked_fill(length <= tiny, 0.0) / length.clamp(min=tiny)
    else:
        vectors, values = eigenvectors(matrix.mT @ matrix, count)
    return vectors, values.clamp(min=0.0).sqrt()


def aligned(student: Tensor, teacher: Tensor) -> Tensor:
    """Return for each teacher's vector the most parallel of the student's, of the same sense.

    student [B, N, k + 3], teacher [B, N, k]; returns [B, N, k].
    """
    cosine = student.detach().mT @ teacher  # [B, k + 3, k]
    best = cosine.abs().argmax(1, keepdim=True)
    sign = cosine.gather(1, best).sign()
    return student.gather(2, best.expand(-1, student.shape[1], -1)) * sign


def relation(vectors: Tensor, before: Tensor) -> Tensor:
    """Return the radial basis functions [B, N, M, k] of entries of [B, N, k] and [B, M, k]."""
    return (-(vectors[:, :, None] - before[:, None, :]).square() / RBF_WIDTH).exp()


@full_precision
def kdsvd_loss(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    num_vectors: int = 1,
    matrix: Matrix = "rows",
) -> Tensor:
    """Return the sum over consecutive stages of squared differences of relations, by sample.

    Maps [B, C, H, W], two stages at least; "channels" needs equal channels stage by stage.
    """
    both = []
    for s, t in zip(student, teacher, strict=True):
        s, t = pool_to_smaller(s, t)
        t_vectors, t_values = right_singular_vectors(as_matrix(t, matrix), num_vectors)
        t_vectors = t_vectors * torch.where(t_vectors.sum(1, keepdim=True) < 0, -1.0, 1.0)
        candidates = min(num_vectors + SURPLUS, *as_matrix(s, matrix).shape[1:])
        s_vectors, _ = right_singular_vectors(as_matrix(s, matrix), candidates)
        scale = F.normalize(t_values, dim=1)[:, None]
        both.append((aligned(s_vectors, t_vectors) * scale, t_vectors * scale))
    terms = [
        (relation(s, s_before) - relation(t, t_before)).square().sum()
        for (s_before, t_before), (s, t) in pairwise(both)
    ]
    return torch.stack(terms).sum() / len(student[0])


class Options(MethodOptions):
    """Options of distillation by singular vectors."""

    weight: float = Field(1.0, ge=0, description="weight of the loss")
    num_vectors: int = Field(1, ge=1, description="singular vectors of each stage")
    matrix: Literal["rows", "channels"] = Field(
        "rows", description="a map as C*H rows of W (mdistiller) or H*W positions by C channels"
    )


class KDSVD(Method[Options]):
    """Relations of singular vectors over all stages but the stem."""

    teacher_maps = ("stages",)

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        student, teacher = setup.student, setup.need_teacher()
        need_maps("kdsvd", student, teacher)
        pairs = stage_pairs(student.features.stages[1:], teacher.features.stages[1:])
        if len(pairs) < 2:
            raise UserError(
                f"kdsvd relates consecutive stages, but {student.name} and {teacher.name} "
                "share fewer than two after the stem"
            )
        for s, t in pairs:
            s, t = pool_to_smaller(s, t)
            if options.matrix == "channels" and s.shape[1] != t.shape[1]:
                raise UserError(
                    f"kdsvd.matrix 'channels' needs equal channels, but {student.name} has "
                    f"{s.shape[1]} where {teacher.name} has {t.shape[1]}; choose 'rows'"
                )
            if options.num_vectors > (limit := min(as_matrix(t, options.matrix).shape[1:])):
                raise UserError(
                    f"kdsvd.num_vectors is {options.num_vectors}, but a stage of {student.name} "
                    f"with {teacher.name} has only {limit}"
                )

    def loss(self, step: Step) -> Tensor:
        """Return the weighted loss."""
        pairs = stage_pairs(step.student.stages[1:], step.need_teacher().stages[1:])
        student, teacher = zip(*pairs, strict=True)
        options = self.options
        return options.weight * kdsvd_loss(student, teacher, options.num_vectors, options.matrix)
