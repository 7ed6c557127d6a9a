"""Knowledge review (ReviewKD): earlier stages of the teacher guide later ones of the student.

Chen et al. 2021, "Distilling Knowledge via Knowledge Review" (arXiv:2104.09044), section 3.3:
attention-based fusion (ABF) walks the student's features from the deepest to the shallowest,
and the hierarchical context loss (HCL) compares each result with the teacher's pre-activation
of that stage at several scales. The pooled features form the deepest level.

All channels and sizes come from the two networks, which gives the published geometry for every
pair with published settings and extends it to all others. If the networks differ in their
number of stages the deepest are matched.

The published CIFAR-100 numbers come from the authors' own recipe (batch 128, learning rate 0.1
with Nesterov momentum, warm-up counted from epoch 0, teacher in train mode); mdistiller, whose
recipe all rows of the later tables share, counts the warm-up from 1 and keeps the teacher in
eval mode. The defaults are mdistiller's; ``first_epoch=0`` and ``teacher_mode="train"`` are the
authors'. In the authors' code that teacher also keeps its graph, which changes no gradient.
The weight is published per pair (0.6 to 8; resnet32x4 to resnet8x4: 5); none is published for
VGG and MobileNetV2 students. ImageNet: the student's pre-activations, no warm-up, and for
MobileNet at most 256 middle channels (the authors) and weight 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from benchmark.methods._batch import need_two
from benchmark.methods._maps import deepest_pairs, need_maps
from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions
from benchmark.models.features import Features

Size = tuple[int, int]


@full_precision
def hcl_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Return the hierarchical context loss, summed over pairs of equal shape [B, C, H, W].

    Each pair: the mean squared difference of the maps and, with weights 1/2, 1/4, 1/8 in turn,
    of their averages over 4x4, 2x2 and 1x1 bins, of which only those coarser than the map are
    used; divided by the sum of the weights used.
    """
    total = student[0].new_zeros(())
    for s, t in zip(student, teacher, strict=True):
        loss, weight, weights = F.mse_loss(s, t), 1.0, 1.0
        # Averaging is linear, so the difference is averaged instead of both maps.
        difference = s - t
        for bins in (4, 2, 1):
            if bins < s.shape[2]:
                weight /= 2
                weights += weight
                loss = loss + weight * F.adaptive_avg_pool2d(difference, bins).square().mean()
        total = total + loss / weights
    return total


def resized(x: Tensor, size: Size) -> Tensor:
    """Return the map [B, C, H, W] at another size by its nearest neighbours."""
    return x if (x.shape[2], x.shape[3]) == size else F.interpolate(x, size, mode="nearest")


class Fusion(nn.Module):
    """Attention-based fusion of one level (ABF): the student's map with the deeper result.

    ``fuse`` is False for the deepest level, which has nothing deeper. ``out_size`` is the size
    of the teacher's map.
    """

    def __init__(self, channels: int, middle: int, out: int, out_size: Size, fuse: bool) -> None:
        super().__init__()
        self.out_size = out_size
        self.conv1 = nn.Sequential(
            nn.Conv2d(channels, middle, 1, bias=False), nn.BatchNorm2d(middle)
        )
        self.conv2 = nn.Sequential(
            nn.Conv2d(middle, out, 3, padding=1, bias=False), nn.BatchNorm2d(out)
        )
        self.attention = nn.Conv2d(2 * middle, 2, 1) if fuse else None
        for sequence in (self.conv1, self.conv2):
            convolution = sequence[0]
            assert isinstance(convolution, nn.Conv2d)
            nn.init.kaiming_uniform_(convolution.weight, a=1)

    def forward(self, x: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the result [B, out, *out_size] and what is handed on [B, middle, *out_size]."""
        x = self.conv1(x)
        if self.attention is not None:
            assert deeper is not None
            deeper = resized(deeper, (x.shape[2], x.shape[3]))
            # The convolution of both maps stacked, without stacking them.
            of_x, of_deeper = self.attention.weight.chunk(2, dim=1)
            scores = F.conv2d(x, of_x, self.attention.bias) + F.conv2d(deeper, of_deeper)
            shares = scores.sigmoid()  # [B, 2, H, W]
            x = x * shares[:, :1] + deeper * shares[:, 1:]
        x = resized(x, self.out_size)
        return self.conv2(x), x


def fusions(
    student: Sequence[Tensor], teacher: Sequence[Tensor], max_mid_channels: int
) -> nn.ModuleList:
    """Return the fusion of each level for maps of these shapes, the deepest level first.

    The student's deepest channels, up to a limit, are the width of what is handed on.
    """
    middle = min(max_mid_channels, student[-1].shape[1])
    pairs = list(zip(student, teacher, strict=True))
    return nn.ModuleList(
        Fusion(s.shape[1], middle, t.shape[1], (t.shape[2], t.shape[3]), fuse=depth > 0)
        for depth, (s, t) in enumerate(reversed(pairs))
    )


def review(levels: Sequence[nn.Module], features: Sequence[Tensor]) -> list[Tensor]:
    """Return the fused student maps, shallow to deep; ``levels`` start with the deepest fusion."""
    results: list[Tensor] = []
    handed_on: Tensor | None = None
    for fusion, x in zip(levels, reversed(features), strict=True):
        result, handed_on = fusion(x, handed_on)
        results.append(result)
    return results[::-1]


class Options(MethodOptions):
    """Options of ReviewKD."""

    weight: float = Field(1.0, ge=0, description="weight of the loss after the warm-up")
    warmup_epochs: int = Field(20, ge=0, description="epochs over which the weight grows to full")
    first_epoch: Literal[0, 1] = Field(
        1, description="number of the first epoch in the warm-up: 1 (mdistiller) or 0 (authors)"
    )
    max_mid_channels: int = Field(512, gt=0, description="upper limit of the fusion's channels")
    student_preacts: bool = Field(
        False, description="fuse the student's pre-activations (ImageNet) instead of its stages"
    )
    teacher_mode: Literal["eval", "train"] = Field(
        "eval", description="whether the teacher's batch norms use the batch (authors' CIFAR code)"
    )


class ReviewKD(Method[Options]):
    """The review of all stages but the stem, and of the pooled features."""

    teacher_maps = ("pooled", "preacts")

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        teacher = setup.need_teacher()
        need_maps("reviewkd", setup.student, teacher)
        if options.teacher_mode == "train":
            self.private_teacher = "train"
        levels = deepest_pairs(
            self._student_maps(setup.student.features), _targets(teacher.features)
        )
        student_maps, teacher_maps = zip(*levels, strict=True)
        self.abfs = fusions(student_maps, teacher_maps, options.max_mid_channels)

    def _student_maps(self, features: Features) -> list[Tensor]:
        maps = features.preacts if self.options.student_preacts else features.stages
        return [*maps[1:], features.pooled[:, :, None, None]]

    def loss(self, step: Step) -> Tensor:
        """Return the weighted loss, warmed up; UserError for a batch of one."""
        need_two("reviewkd", step.labels)
        options = self.options
        num_levels = len(self.abfs)
        fused = review(list(self.abfs), self._student_maps(step.student)[-num_levels:])
        loss = hcl_loss(fused, _targets(step.need_teacher())[-num_levels:])
        return options.weight * warmup(step.epoch, options) * loss


def warmup(epoch: int, options: Options) -> float:
    """Return the share of the full weight in ``epoch`` (from 1)."""
    if options.warmup_epochs == 0:
        return 1.0
    return min((epoch - 1 + options.first_epoch) / options.warmup_epochs, 1.0)


def _targets(features: Features) -> list[Tensor]:
    return [*features.preacts[1:], features.pooled[:, :, None, None]]
