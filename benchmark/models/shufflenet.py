"""ShuffleNetV1 and V2 (Zhang et al. 2017, arXiv:1707.01083; Ma et al. 2018, arXiv:1807.11164).

In their CIFAR form: a 1x1 stem of 24 channels at stride 1, no stem pooling, three stages of 16,
8 and 4 pixels. V1 has three groups and widths 240, 480, 960; V2 is the 1x network. Weights keep
torch's default initialisation, as in the published tables. A deviation from V1's paper that the
tables share: a ReLU follows the depthwise convolution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.models import model
from benchmark.models.features import Features, Model
from benchmark.models.layers import batch_norms, conv1x1, conv3x3, global_average
from benchmark.models.three_stages import ThreeStages

STEM_CHANNELS = 24


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave ``groups`` equal parts of the channels of [B, C, H, W].

    By views: on CPU about twice as fast as torch's own kernel.
    """
    batch, channels, height, width = x.shape
    split = x.reshape(batch, groups, channels // groups, height, width)
    return split.transpose(1, 2).reshape(batch, channels, height, width)


class ShuffleUnitV1(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; returns its output before the last ReLU.

    At stride 2 the average-pooled input is concatenated, at stride 1 the input is added.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, groups: int) -> None:
        super().__init__()
        self.stride = stride
        # The paper (section 3.2): no groups if the input is that narrow.
        self.groups = 1 if in_channels == STEM_CHANNELS else groups
        own = channels - in_channels if stride == 2 else channels
        hidden = own // 4
        self.conv1 = conv1x1(in_channels, hidden, groups=self.groups)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = conv3x3(hidden, hidden, stride, groups=hidden)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = conv1x1(hidden, own, groups=groups)
        self.bn3 = nn.BatchNorm2d(own)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, channels, H / stride, W / stride]."""
        out: Tensor = F.relu(self.bn1(self.conv1(x)))
        out = channel_shuffle(out, self.groups)
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.stride == 2:
            return torch.cat([out, F.avg_pool2d(x, 3, 2, padding=1)], dim=1)
        return out + x


class ShuffleNetV1(ThreeStages):
    """Stem and three stages of 4, 8 and 4 units.

    The stem is [B, 24, H, W], the stages [B, 240, H / 2, W / 2] to [B, 960, H / 8, W / 8].
    The published network names no batch norm before its ReLUs; the choice is that for ResNets,
    whose blocks end alike.
    """

    def __init__(self, groups: int, widths: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.conv1 = conv1x1(3, STEM_CHANNELS)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.layer1 = _stage_v1(STEM_CHANNELS, widths[0], 4, groups)
        self.layer2 = _stage_v1(widths[0], widths[1], 8, groups)
        self.layer3 = _stage_v1(widths[1], widths[2], 4, groups)
        self.linear = nn.Linear(widths[2], num_classes)

    @property
    def head(self) -> nn.Linear:
        """The classifier."""
        return self.linear


def _stage_v1(in_channels: int, channels: int, num_units: int, groups: int) -> nn.Sequential:
    rest = (ShuffleUnitV1(channels, channels, 1, groups) for _ in range(num_units - 1))
    return nn.Sequential(ShuffleUnitV1(in_channels, channels, 2, groups), *rest)


class SplitUnit(nn.Module):
    """V2's unit at stride 1: half of the channels pass, half are convolved."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = conv1x1(half, half)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = conv3x3(half, half, groups=half)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = conv1x1(half, half)
        self.bn3 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the unit's output and [passed half, convolved half before its ReLU]."""
        passed, out = x.chunk(2, dim=1)
        out = F.relu(self.bn1(self.conv1(out)))
        out = self.bn2(self.conv2(out))
        before = self.bn3(self.conv3(out))
        out = torch.cat([passed, F.relu(before)], dim=1)
        return channel_shuffle(out, 2), torch.cat([passed, before], dim=1)


class DownUnit(nn.Module):
    """V2's unit at stride 2: two branches on the whole input, concatenated."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = conv3x3(in_channels, in_channels, 2, groups=in_channels)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv2 = conv1x1(in_channels, half)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = conv1x1(in_channels, half)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = conv3x3(half, half, 2, groups=half)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = conv1x1(half, half)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, channels, H / 2, W / 2]."""
        left = self.bn1(self.conv1(x))
        left = F.relu(self.bn2(self.conv2(left)))
        right = F.relu(self.bn3(self.conv3(x)))
        right = self.bn4(self.conv4(right))
        right = F.relu(self.bn5(self.conv5(right)))
        return channel_shuffle(torch.cat([left, right], dim=1), 2)


class ShuffleNetV2(Model):
    """Stem, three stages of 4, 8 and 4 units, a last 1x1 convolution."""

    def __init__(self, widths: tuple[int, int, int, int], num_classes: int) -> None:
        super().__init__()
        self.conv1 = conv1x1(3, STEM_CHANNELS)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.layer1 = _stage_v2(STEM_CHANNELS, widths[0], 4)
        self.layer2 = _stage_v2(widths[0], widths[1], 8)
        self.layer3 = _stage_v2(widths[1], widths[2], 4)
        self.conv2 = conv1x1(widths[2], widths[3])
        self.bn2 = nn.BatchNorm2d(widths[3])
        self.linear = nn.Linear(widths[3], num_classes)

    @property
    def num_stages(self) -> int:
        """Three."""
        return 3

    def stage(self, number: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the stem [B, 24, H, W] or a stage [B, 116, H / 2, W / 2] to [B, 464, H / 8, W / 8].

        A stage's pre-activation is [passed half, convolved half before its ReLU], not shuffled,
        so its channels stand in another order than the stage's: as in the published network.
        """
        if number == 0:
            stem = F.relu(self.bn1(self.conv1(x)))
            return stem, stem
        return _run_v2((self.layer1, self.layer2, self.layer3)[number - 1], x)

    def finish(self, stages: tuple[Tensor, ...], preacts: tuple[Tensor, ...]) -> Features:
        """Convolve once more [B, 1024, H / 8, W / 8], average and classify."""
        last_map = F.relu(self.bn2(self.conv2(stages[-1])))
        pooled = global_average(last_map)
        return Features(self.linear(pooled), pooled, stages, preacts, last_map)

    @property
    def head(self) -> nn.Linear:
        """The classifier."""
        return self.linear

    def batch_norms_before_relu(self) -> tuple[nn.BatchNorm2d, ...]:
        """Return, for each stage, a batch norm as wide as its pre-activation: a copy.

        The published network names none, and its layers are half as wide: they end the convolved
        half only. The passed half left a ReLU earlier, so it is never below the negative margin
        that OFD clips at; 1 and 0 stand there as weight and bias, and the copy changes nothing.
        """
        stages = (self.layer1, self.layer2, self.layer3)
        return tuple(_widened(bn) for bn in batch_norms(*(stage[-1].bn3 for stage in stages)))


def _widened(batch_norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """Return a detached copy with as many channels again in front, of weight 1 and bias 0."""
    half = batch_norm.num_features
    weight = batch_norm.weight.detach()
    wide = nn.BatchNorm2d(2 * half, device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        wide.weight[half:] = weight
        wide.bias[half:] = batch_norm.bias
    return wide.requires_grad_(False)


def _stage_v2(in_channels: int, channels: int, num_units: int) -> nn.Sequential:
    rest = (SplitUnit(channels) for _ in range(num_units - 1))
    return nn.Sequential(DownUnit(in_channels, channels), *rest)


def _run_v2(stage: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
    down, *splits = stage
    x = down(x)
    before = x
    for split in splits:
        x, before = split(x)
    return x, before


@model()
def shufflenetv1(num_classes: int) -> ShuffleNetV1:
    """ShuffleNetV1 with three groups, 0.95 M parameters."""
    return ShuffleNetV1(3, (240, 480, 960), num_classes)


@model()
def shufflenetv2(num_classes: int) -> ShuffleNetV2:
    """ShuffleNetV2 1x, 1.36 M parameters."""
    return ShuffleNetV2((116, 232, 464, 1024), num_classes)
