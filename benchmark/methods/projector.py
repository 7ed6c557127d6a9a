"""Projector, normalisation, distance: the simple recipe, with its three choices as options.

Miles and Mikolajczyk 2024, "Understanding the Role of the Projector in Knowledge Distillation"
(arXiv:2303.11098; AAAI), sections 3 and 4. A projector W maps the student's feature to the
teacher's dimensions, both sides are normalised without learnt scales, and their distance is the
logarithm of the sum of the fourth powers of all differences: soft, since it rewards what is
still wrong relative to the rest. KL divergence of the logits at temperature 1 is added.

Defaults are the authors' ImageNet code (ResNet34 to ResNet18): linear projector with bias, batch
norm with eps 1e-4, the sum over batch and dimensions (so the loss depends on the batch size),
nothing added inside the logarithm, weight 2, KL weight 1. The CIFAR-100 rows of the paper
have the same form; the weights and the exponent behind them are not published, so they are the
same here. In a composition with DKD or KD the row sets ``kd_weight=0``.

The DeiT form is ``distance="correlation", norm_eps=1e-30, log_eps=1e-5, weight=1,
feature="patch_mean"``: log(sum_d |c_d - 1|^4 + 1e-5), c_d the batch mean of the product of both
sides' normalised dimension d. The authors' eps is 0, which torch refuses; 1e-30 gives the same
numbers. Their feature is the mean of the patch tokens behind the last layer norm; here the
tokens pass a layer norm without scales, since those are absorbed by the projector.

Choices that the paper's ablations leave open: the ``mlp`` projector is linear, ReLU, linear
with the teacher's width between, and the ``l2`` distance is a mean over batch and dimensions.
Where student and teacher agree exactly the logarithm is taken of the smallest normal number.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from benchmark.methods._batch import need_two
from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.kd import kd_loss
from benchmark.methods.options import MethodOptions
from benchmark.models.features import Features


@full_precision
def normalised(features: Tensor, norm: Literal["none", "l2", "batch"], eps: float) -> Tensor:
    """Return features [B, D] with unit rows (l2), with standardised columns (batch), or as is."""
    if norm == "l2":
        return F.normalize(features, dim=1)
    if norm == "batch":
        return F.batch_norm(features, None, None, training=True, eps=eps)
    return features


def _log(total: Tensor) -> Tensor:
    return torch.log(total.clamp_min(torch.finfo(total.dtype).tiny))


@full_precision
def l2_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of [B, D]."""
    return F.mse_loss(student, teacher)


@full_precision
def logsum_distance(student: Tensor, teacher: Tensor, exponent: float, eps: float) -> Tensor:
    """Return log(sum over batch and dimensions of |s - t|^exponent + eps), for [B, D]."""
    return _log((student - teacher).abs().pow(exponent).sum() + eps)


@full_precision
def correlation_distance(student: Tensor, teacher: Tensor, exponent: float, eps: float) -> Tensor:
    """Return log(sum_d |c_d - 1|^exponent + eps), c_d the batch mean of s_d t_d, for [B, D]."""
    correlation = (student * teacher).mean(0)
    return _log((correlation - 1).abs().pow(exponent).sum() + eps)


class Options(MethodOptions):
    """Options of the simple recipe."""

    projector: Literal["linear", "mlp"] = Field("linear", description="map to the teacher's width")
    norm: Literal["none", "l2", "batch"] = Field("batch", description="normalisation of both sides")
    distance: Literal["l2", "logsum", "correlation"] = Field(
        "logsum", description="distance of the sides; correlation is the DeiT form"
    )
    feature: Literal["pooled", "patch_mean"] = Field(
        "pooled", description="the student's feature: the classifier's input, or mean patch token"
    )
    weight: float = Field(2.0, ge=0, description="weight of the distance")
    exponent: float = Field(4.0, gt=1, description="power in the logsum and correlation distances")
    norm_eps: float = Field(1e-4, gt=0, description="added to the variance in the batch norm")
    log_eps: float = Field(0.0, ge=0, description="added inside the logarithm")
    kd_weight: float = Field(1.0, ge=0, description="weight of KL on the logits")
    temperature: float = Field(1.0, gt=0, description="temperature of KL on the logits")


class Projector(Method[Options]):
    """The distance of a projected student feature and the teacher's pooled one, and KL."""

    relational = True
    teacher_maps = ("pooled",)

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        width = student_feature(setup.student.features, options.feature).shape[1]
        out = setup.need_teacher().features.pooled.shape[1]
        self.embed: nn.Module = nn.Linear(width, out)
        if options.projector == "mlp":
            self.embed = nn.Sequential(nn.Linear(width, out), nn.ReLU(), nn.Linear(out, out))

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return both terms, weighted; UserError for a batch of one if it is normalised."""
        options, teacher = self.options, step.need_teacher()
        if options.norm == "batch":
            need_two("projector", step.labels)
        projected = self.embed(student_feature(step.student, options.feature))
        s = normalised(projected, options.norm, options.norm_eps)
        t = normalised(teacher.pooled, options.norm, options.norm_eps)
        if options.distance == "l2":
            distance = l2_distance(s, t)
        elif options.distance == "logsum":
            distance = logsum_distance(s, t, options.exponent, options.log_eps)
        else:
            distance = correlation_distance(s, t, options.exponent, options.log_eps)
        kd = kd_loss(step.student.logits, teacher.logits, options.temperature)
        return {"distance": options.weight * distance, "kd": options.kd_weight * kd}

    def projections(self, student: Features) -> dict[str, tuple[Tensor, nn.Module]]:
        """Return the projector with what it is given."""
        return {"embed": (student_feature(student, self.options.feature), self.embed)}


def student_feature(features: Features, kind: Literal["pooled", "patch_mean"]) -> Tensor:
    """Return the student's feature [B, D].

    The patch tokens are the last square number of tokens of the last stage [B, N, C]; what
    stands before them (class and distillation tokens) is left out. A map [B, C, H, W] is
    averaged over space.
    """
    if kind == "pooled":
        return features.pooled
    last = features.stages[-1]
    if last.dim() == 4:
        return last.mean((2, 3))
    patches = last[:, -(math.isqrt(last.shape[1]) ** 2) :]
    return F.layer_norm(patches, (patches.shape[2],)).mean(1)
