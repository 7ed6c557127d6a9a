"""Overhaul of feature distillation (OFD): match pre-activations through a margin ReLU.

Heo et al. 2019, "A Comprehensive Overhaul of Feature Distillation" (arXiv:1904.01866), section
3 (margin ReLU, partial L2). Features are taken before the ReLU at the end of every stage but the
stem; the student's pass a 1x1 convolution and batch norm first. The deeper a stage, the more it
counts: each level weighs half of the next.

The margin of a channel is the expected negative value of N(beta, gamma^2), with beta and gamma
from the teacher's batch norm that ends before that ReLU; -3 |gamma| if a negative value is
rarer than 0.1 %. Margins are rounded to float32, as in the authors' code.

Holes of the reference code (mdistiller) that are filled here, all by taking shapes from the
networks themselves instead of its tables of channels:

- MobileNetV2 as a student, which the reference gives no pre-activations. Its stages end in a
  linear bottleneck: no ReLU follows, so the stage is its own pre-activation (the batch norms
  that the reference's MobileNetV2 names for this method end those bottlenecks).
- ShuffleNetV1 as a student and ResNet50 as a teacher, whose pre-activations are there but whose
  tables of channels are missing or do not fit them.
- Networks that name fewer batch norms than they have stages (torchvision's ResNets name those of
  stages 2 to 4): the deepest stages are matched.

The teacher runs in train mode, on a copy of its own: batch statistics, running statistics that
drift. Both mdistiller and the authors do so. ``teacher_mode="eval"`` is the alternative.
ImageNet (ResNet50 to MobileNetV1, mdistiller) uses weight 1e-4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from benchmark.methods._maps import deepest_pairs, need_maps
from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions

RARE = 0.001  # share of negative values below which their mean says nothing


def margins(weight: Tensor, bias: Tensor) -> Tensor:
    """Return the margin of each channel [C] in float32 from a batch norm's weight and bias [C].

    If the weight is zero the channel is constant: the margin is its value if negative, else 0.
    """
    std, mean = weight.detach().double().abs(), bias.detach().double()
    share = torch.special.ndtr(-mean / std)
    density = torch.exp(-0.5 * (mean / std).square()) / math.sqrt(2 * math.pi)
    found = torch.where(share > RARE, mean - std * density / share, -3 * std)
    return torch.where(std > 0, found, mean.clamp_max(0)).float()


@full_precision
def ofd_loss(
    student: Sequence[Tensor], teacher: Sequence[Tensor], margin: Sequence[Tensor]
) -> Tensor:
    """Return the weighted sum over levels, averaged over the batch, summed over C, H and W.

    student: connected maps [B, C, H, W], shallow to deep; teacher: pre-activations with the same
    channels, pooled to the student's size; margin: [C] each.
    """
    total = student[0].new_zeros(())
    for level, (s, t, m) in enumerate(zip(student, teacher, margin, strict=True)):
        if t.shape[2:] != s.shape[2:]:
            t = F.adaptive_avg_pool2d(t, (s.shape[2], s.shape[3]))
        target = torch.maximum(t, m[:, None, None])
        counted = (s > target) | (target > 0)
        distance = torch.where(counted, s - target, 0.0).square().sum() / s.shape[0]
        total = total + distance / 2.0 ** (len(student) - 1 - level)
    return total


class Options(MethodOptions):
    """Options of OFD."""

    weight: float = Field(0.001, ge=0, description="weight of the sum over levels")
    teacher_mode: Literal["train", "eval"] = Field(
        "train", description="whether the teacher's batch norms use the batch (as published)"
    )


def connector(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return the 1x1 convolution and batch norm of one level, He-initialised by fan-out."""
    convolution = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    nn.init.normal_(convolution.weight, 0.0, math.sqrt(2.0 / out_channels))
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))


class OFD(Method[Options]):
    """Partial L2 between connected pre-activations and margin-clipped ones of the teacher."""

    teacher_maps = ("preacts",)
    private_teacher: Literal["train"] | None = "train"

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        teacher = setup.need_teacher()
        need_maps("ofd", setup.student, teacher)
        if options.teacher_mode == "eval":
            self.private_teacher = None
        batch_norms = teacher.model.batch_norms_before_relu()
        pairs = deepest_pairs(setup.student.features.preacts[1:], teacher.features.preacts[1:])
        pairs = pairs[-len(batch_norms) :]
        batch_norms = batch_norms[-len(pairs) :]
        self.connectors = nn.ModuleList(connector(s.shape[1], t.shape[1]) for s, t in pairs)
        for i, ((_, t), norm) in enumerate(zip(pairs, batch_norms, strict=True)):
            assert norm.num_features == t.shape[1], f"{teacher.name}: batch norm {i} does not fit"
            self.register_buffer(f"margin{i}", margins(norm.weight, norm.bias))

    @property
    def margins(self) -> list[Tensor]:
        """The margins [C] of each level, shallow to deep."""
        return [self.get_buffer(f"margin{i}") for i in range(len(self.connectors))]

    def loss(self, step: Step) -> Tensor:
        """Return the weighted partial L2."""
        num_levels = len(self.connectors)
        student = step.student.preacts[-num_levels:]
        teacher = step.need_teacher().preacts[-num_levels:]
        connected = [connect(s) for connect, s in zip(self.connectors, student, strict=True)]
        return self.options.weight * ofd_loss(connected, teacher, self.margins)
