"""Attention transfer (AT): match where two networks look, stage by stage.

Zagoruyko & Komodakis 2017, "Paying More Attention to Attention" (arXiv:1612.03928),
equation 2, on all stages but the stem. Their three maps over the channels are options: the sum
of absolute values, the sum of powers, the maximum of powers. The default, the mean of squares,
is what Tian et al. 2020 (CRD) and mdistiller publish their numbers with, at weight 1000; the
mean of squared differences over positions replaces the paper's norm there. The mean and the
sum of powers differ only if the map vanishes, as maps are normalised.

If the two maps of a stage differ in size the larger is average-pooled before the map is
formed; stages without a partner are left out. mdistiller's ImageNet row of ResNet50 to
MobileNetV1 lacks the student's stem and so compares the student's maps of 28, 14 and 7 pixels
with the teacher's of 56, 28 and 14: ``student_skip=2``.
"""

from __future__ import annotations

from collections.abc import Sequence
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

Map = Literal["mean_of_powers", "sum", "sum_of_powers", "max_of_powers"]


def attention(features: Tensor, kind: Map = "mean_of_powers", power: float = 2.0) -> Tensor:
    """Return the attention map [B, H * W] of [B, C, H, W], of unit length per sample."""
    if kind == "sum":
        over_channels = features.abs().sum(1)
    elif kind == "max_of_powers":
        over_channels = features.abs().amax(1).pow(power)
    else:
        powers = features.square() if power == 2 else features.abs().pow(power)
        over_channels = powers.mean(1) if kind == "mean_of_powers" else powers.sum(1)
    return F.normalize(over_channels.flatten(1), dim=1)


@full_precision
def at_loss(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    kind: Map = "mean_of_powers",
    power: float = 2.0,
) -> Tensor:
    """Return the sum over stages of the mean squared difference of attention maps.

    Maps are [B, C, H, W], one pair per stage; channels and sizes of a pair may differ.
    """
    terms = []
    for s, t in zip(student, teacher, strict=True):
        s, t = pool_to_smaller(s, t)
        terms.append((attention(s, kind, power) - attention(t, kind, power)).square().mean())
    return torch.stack(terms).sum()


class Options(MethodOptions):
    """Options of attention transfer."""

    weight: float = Field(1000.0, ge=0, description="weight of the sum over stages")
    map: Literal["mean_of_powers", "sum", "sum_of_powers", "max_of_powers"] = Field(
        "mean_of_powers", description="how channels become one attention map"
    )
    power: float = Field(2.0, ge=1, description="the power p of the maps of powers")
    student_skip: int = Field(
        1, ge=0, description="stages of the student left out at its start; the teacher's: the stem"
    )


class AT(Method[Options]):
    """Attention transfer on all stages but the stem."""

    teacher_maps = ("stages",)

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        need_maps("at", setup.student, setup.need_teacher())
        if options.student_skip >= (count := len(setup.student.features.stages)):
            raise UserError(
                f"at.student_skip is {options.student_skip}, but {setup.student.name} has only "
                f"{count} stages"
            )

    def loss(self, step: Step) -> Tensor:
        """Return the weighted attention loss."""
        options = self.options
        stages = step.student.stages[options.student_skip :]
        pairs = stage_pairs(stages, step.need_teacher().stages[1:])
        student, teacher = zip(*pairs, strict=True)
        return options.weight * at_loss(student, teacher, options.map, options.power)
