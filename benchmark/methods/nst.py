"""Neuron selectivity transfer (NST): match the distributions of channel activations.

Huang & Wang 2017, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer"
(arXiv:1707.01219), equations 6 and 9: the squared maximum mean discrepancy between the
channels of two maps under the polynomial kernel of degree 2, on all stages but the stem;
weight 50 as in the paper and in Tian et al. 2020 (CRD).

If the two maps of a stage differ in size the larger is average-pooled; stages without a
partner are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods._maps import need_maps, pool_to_smaller, stage_pairs
from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions


def mean_kernel(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean of (x . y)^2 over samples, channels x of a [B, C, N] and y of b [B, D, N].

    ||A B^T||^2 = <A^T A, B^T B>, so the smaller of the products is formed: C x D or N x N
    (a ResNet-50 has 2048 channels on 16 positions).
    """
    batch, channels, positions = a.shape
    others = b.shape[1]
    if positions * positions < channels * others:
        total = (torch.bmm(a.mT, a) * torch.bmm(b.mT, b)).sum()
    else:
        total = torch.bmm(a, b.mT).square().sum()
    return total / (batch * channels * others)


@full_precision
def nst_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Return the sum over stages of squared discrepancies; maps [B, C, H, W], any C and size."""
    terms = []
    for s, t in zip(student, teacher, strict=True):
        s, t = pool_to_smaller(s, t)
        s = F.normalize(s.flatten(2), dim=2)
        t = F.normalize(t.flatten(2), dim=2)
        terms.append(mean_kernel(t, t) + mean_kernel(s, s) - 2.0 * mean_kernel(s, t))
    return torch.stack(terms).sum()


class Options(MethodOptions):
    """Options of neuron selectivity transfer."""

    weight: float = Field(50.0, ge=0, description="weight of the sum over stages")


class NST(Method[Options]):
    """Neuron selectivity transfer on all stages but the stem."""

    teacher_maps = ("stages",)

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        need_maps("nst", setup.student, setup.need_teacher())

    def loss(self, step: Step) -> Tensor:
        """Return the weighted discrepancy."""
        pairs = stage_pairs(step.student.stages[1:], step.need_teacher().stages[1:])
        student, teacher = zip(*pairs, strict=True)
        return self.options.weight * nst_loss(student, teacher)
