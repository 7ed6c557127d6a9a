"""Bottleneck ResNets of the online distillation tables: three stages from 16 channels.

The tables of ONE, OKDDip and PCL print a ResNet-110 and a WRN-20-8 that are built of bottleneck
blocks, four times as wide outside as inside: 1.17 M parameters in place of the basic-block
ResNet-110's 1.74 M, and no wide ResNet of the usual pre-activation kind (its 3x3 convolutions
alone are 8 times wider). As in shaoeric/Peer-Collaborative-Learning@6afb473, which takes both
from OKDDip's code; shortcuts that change the shape are 1x1 convolutions with batch norm.
"""

from __future__ import annotations

from torch import nn

from benchmark.models import model
from benchmark.models.layers import conv3x3, init_convolutions
from benchmark.models.resnet_bottleneck import Bottleneck
from benchmark.models.three_stages import ThreeStages

STEM = 16
WIDTHS = (16, 32, 64)


class ThreeStageResNet(ThreeStages):
    """Stem and three stages of bottleneck blocks.

    The stem is [B, 16, H, W], the stages [B, 64, H, W], [B, 128, H / 2, W / 2] and
    [B, 256, H / 4, W / 4].
    """

    def __init__(self, num_blocks: int, num_classes: int, widening: int = 1) -> None:
        super().__init__()
        out = [Bottleneck.expansion * width for width in WIDTHS]
        self.conv1 = conv3x3(3, STEM)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.layer1 = _stage(STEM, WIDTHS[0], num_blocks, 1, widening)
        self.layer2 = _stage(out[0], WIDTHS[1], num_blocks, 2, widening)
        self.layer3 = _stage(out[1], WIDTHS[2], num_blocks, 2, widening)
        self.fc = nn.Linear(out[2], num_classes)
        init_convolutions(self)


def _stage(
    in_channels: int, channels: int, num_blocks: int, stride: int, widening: int
) -> nn.Sequential:
    out = channels * Bottleneck.expansion
    rest = (Bottleneck(out, channels, 1, widening) for _ in range(num_blocks - 1))
    return nn.Sequential(Bottleneck(in_channels, channels, stride, widening), *rest)


@model()
def resnet110_bottleneck(num_classes: int) -> ThreeStageResNet:
    """ResNet-110 of bottleneck blocks, 12 a stage, 1.17 M parameters."""
    return ThreeStageResNet(12, num_classes)


@model()
def wrn_20_8(num_classes: int) -> ThreeStageResNet:
    """The online tables' WRN-20-8: two bottleneck blocks a stage, 8 times wider inside."""
    return ThreeStageResNet(2, num_classes, widening=8)
