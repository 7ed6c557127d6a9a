"""CIFAR ResNets of He et al. 2015 (arXiv:1512.03385, section 4.2): three stages, 6n + 2 layers.

``resnet8x4`` and ``resnet32x4`` have four times the width (and a stem of 32 channels), as in
Tian et al. 2020 (CRD, arXiv:1910.10699). Shortcuts that change the shape are 1x1 convolutions
with batch norm, not the zero padding of the original paper: the form of every published
distillation table. Keys, shapes and order are those of the public teacher checkpoints.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.models import model
from benchmark.models.layers import conv3x3, init_convolutions, projection
from benchmark.models.three_stages import ThreeStages

Widths = tuple[int, int, int, int]
NARROW: Widths = (16, 16, 32, 64)
WIDE: Widths = (32, 64, 128, 256)


class CifarBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; returns the sum before the last ReLU."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        reshapes = stride != 1 or in_channels != channels
        self.downsample = projection(in_channels, channels, stride) if reshapes else None

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, channels, H / stride, W / stride]."""
        out: Tensor = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        return out + shortcut


class CifarResNet(ThreeStages):
    """Stem and three stages; ``widths`` are the channels of the stem and of each stage.

    The stem is [B, 16, H, W], the stages [B, 16, H, W], [B, 32, H / 2, W / 2] and
    [B, 64, H / 4, W / 4].
    """

    last_norm = "bn2"

    def __init__(self, depth: int, widths: Widths, num_classes: int) -> None:
        super().__init__()
        assert (depth - 2) % 6 == 0, "a CIFAR ResNet has 6n + 2 layers"
        num_blocks = (depth - 2) // 6
        stem, *stages = widths
        self.conv1 = conv3x3(3, stem)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1 = _stage(stem, stages[0], num_blocks, stride=1)
        self.layer2 = _stage(stages[0], stages[1], num_blocks, stride=2)
        self.layer3 = _stage(stages[1], stages[2], num_blocks, stride=2)
        self.fc = nn.Linear(stages[2], num_classes)
        init_convolutions(self)


def _stage(in_channels: int, channels: int, num_blocks: int, stride: int) -> nn.Sequential:
    first = CifarBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(CifarBlock(channels, channels, 1) for _ in range(num_blocks - 1)))


@model()
def resnet8(num_classes: int) -> CifarResNet:
    """ResNet-8, 0.08 M parameters."""
    return CifarResNet(8, NARROW, num_classes)


@model()
def resnet14(num_classes: int) -> CifarResNet:
    """ResNet-14, 0.18 M parameters."""
    return CifarResNet(14, NARROW, num_classes)


@model()
def resnet20(num_classes: int) -> CifarResNet:
    """ResNet-20, 0.28 M parameters."""
    return CifarResNet(20, NARROW, num_classes)


@model()
def resnet32(num_classes: int) -> CifarResNet:
    """ResNet-32, 0.47 M parameters."""
    return CifarResNet(32, NARROW, num_classes)


@model()
def resnet44(num_classes: int) -> CifarResNet:
    """ResNet-44, 0.67 M parameters."""
    return CifarResNet(44, NARROW, num_classes)


@model()
def resnet56(num_classes: int) -> CifarResNet:
    """ResNet-56, 0.86 M parameters."""
    return CifarResNet(56, NARROW, num_classes)


@model()
def resnet110(num_classes: int) -> CifarResNet:
    """ResNet-110, 1.74 M parameters."""
    return CifarResNet(110, NARROW, num_classes)


@model()
def resnet8x4(num_classes: int) -> CifarResNet:
    """ResNet-8 of fourfold width, 1.23 M parameters."""
    return CifarResNet(8, WIDE, num_classes)


@model()
def resnet32x4(num_classes: int) -> CifarResNet:
    """ResNet-32 of fourfold width, 7.43 M parameters."""
    return CifarResNet(32, WIDE, num_classes)
