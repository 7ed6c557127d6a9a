"""Variational information distillation (VID): maximise a bound on mutual information.

Ahn et al. 2019, "Variational Information Distillation for Knowledge Transfer"
(arXiv:1904.05835), equations 3 to 6: the teacher's map is Gaussian given the student's,
with a mean from three 1x1 convolutions and one variance per channel, log(1 + exp(a)) + 1e-5.

The published CIFAR-100 numbers come from Tian et al. 2020 (CRD), where ``a`` is trained (with
weight decay), the default here. mdistiller keeps it in a plain list, so that its variance stays
at 5: ``train_log_scale=False``. If the two maps of a stage differ in size the larger is
average-pooled; stages without a partner are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from benchmark.methods._maps import need_maps, pool_to_smaller, stage_pairs
from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions

EPS = 1e-5


@full_precision
def vid_loss(mean: Tensor, log_scale: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean negative log-likelihood of one stage, without its constant.

    mean and teacher [B, C, H, W]; log_scale [C], the ``a`` of the variance.
    """
    variance = (F.softplus(log_scale) + EPS)[:, None, None]
    return 0.5 * ((mean - teacher).square() / variance + variance.log()).mean()


class Gaussian(nn.Module):
    """The Gaussian of one teacher stage given the student's: its mean network and its scale."""

    def __init__(
        self, s_channels: int, t_channels: int, variance: float, train_scale: bool
    ) -> None:
        super().__init__()
        initial = torch.full((t_channels,), math.log(math.expm1(variance - EPS)))
        self.log_scale: Tensor
        if train_scale:
            self.log_scale = nn.Parameter(initial)
        else:
            self.register_buffer("log_scale", initial, persistent=False)
        self.regressor = nn.Sequential(
            nn.Conv2d(s_channels, t_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(t_channels, t_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(t_channels, t_channels, 1, bias=False),
        )

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of one stage, for maps [B, C, H, W]."""
        student, teacher = pool_to_smaller(student, teacher)
        return vid_loss(self.regressor(student), self.log_scale, teacher)


def stages_loss(
    gaussians: nn.ModuleList, student: Sequence[Tensor], teacher: Sequence[Tensor]
) -> Tensor:
    """Return the sum over stages."""
    terms = [g(s, t) for g, s, t in zip(gaussians, student, teacher, strict=True)]
    return torch.stack(terms).sum()


class Options(MethodOptions):
    """Options of variational information distillation."""

    weight: float = Field(1.0, ge=0, description="weight of the sum over stages")
    initial_variance: float = Field(5.0, gt=1e-5, description="variance at the start")
    train_log_scale: bool = Field(True, description="train the variances (CRD) or keep them")


class VID(Method[Options]):
    """Variational information distillation on all stages but the stem."""

    teacher_maps = ("stages",)

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        teacher = setup.need_teacher()
        need_maps("vid", setup.student, teacher)
        self.vid = nn.ModuleList(
            Gaussian(s.shape[1], t.shape[1], options.initial_variance, options.train_log_scale)
            for s, t in stage_pairs(setup.student.features.stages[1:], teacher.features.stages[1:])
        )

    def loss(self, step: Step) -> Tensor:
        """Return the weighted negative log-likelihood."""
        pairs = stage_pairs(step.student.stages[1:], step.need_teacher().stages[1:])
        student, teacher = zip(*pairs, strict=True)
        return self.options.weight * stages_loss(self.vid, student, teacher)
