"""ResNet-18, -34 and -50 in their CIFAR form: four stages from 64 channels, no stem pooling.

The networks of He et al. 2015 (arXiv:1512.03385, table 1) with a 3x3 stem at stride 1 for
32x32 images, as behind the published distillation tables (ResNet50 is their strongest
teacher). Not torchvision's: those are ``tv_resnet18`` and so on.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.models import model
from benchmark.models.averaged import AveragedModel
from benchmark.models.layers import (
    batch_norms,
    conv1x1,
    conv3x3,
    init_convolutions,
    projection,
    run_stage,
)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; returns the sum before the last ReLU."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        reshapes = stride != 1 or in_channels != channels
        self.shortcut = projection(in_channels, channels, stride) if reshapes else None

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, channels, H / stride, W / stride]."""
        out: Tensor = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return out + (x if self.shortcut is None else self.shortcut(x))

    @property
    def last_batch_norm(self) -> nn.BatchNorm2d:
        """The batch norm whose output the shortcut is added to."""
        return self.bn2


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 to four times the width; returns the sum before the last ReLU.

    The stride is in the 3x3 convolution. ``widening`` makes that one wider and nothing else.
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, widening: int = 1) -> None:
        super().__init__()
        out_channels = self.expansion * channels
        inner = channels * widening
        self.conv1 = conv1x1(in_channels, inner)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = conv3x3(inner, inner, stride)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = conv1x1(inner, out_channels)
        self.bn3 = nn.BatchNorm2d(out_channels)
        reshapes = stride != 1 or in_channels != out_channels
        self.shortcut = projection(in_channels, out_channels, stride) if reshapes else None

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, 4 * channels, H / stride, W / stride]."""
        out: Tensor = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return out + (x if self.shortcut is None else self.shortcut(x))

    @property
    def last_batch_norm(self) -> nn.BatchNorm2d:
        """The batch norm whose output the shortcut is added to."""
        return self.bn3


Block = type[BasicBlock] | type[Bottleneck]


class FourStageResNet(AveragedModel):
    """Stem of 64 channels and four stages of 64, 128, 256, 512 (times the block's expansion)."""

    def __init__(self, block: Block, num_blocks: tuple[int, int, int, int], num_classes: int):
        super().__init__()
        self.conv1 = conv3x3(3, 64)
        self.bn1 = nn.BatchNorm2d(64)
        out = block.expansion
        self.layer1 = _stage(block, 64, 64, num_blocks[0], stride=1)
        self.layer2 = _stage(block, 64 * out, 128, num_blocks[1], stride=2)
        self.layer3 = _stage(block, 128 * out, 256, num_blocks[2], stride=2)
        self.layer4 = _stage(block, 256 * out, 512, num_blocks[3], stride=2)
        self.linear = nn.Linear(512 * out, num_classes)
        init_convolutions(self)

    @property
    def num_stages(self) -> int:
        """Four."""
        return 4

    def stage(self, number: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the stem [B, 64, H, W] or a stage; the stem's map stands for what precedes its ReLU.

        Stages 2 to 4 halve the map: [B, 512 * expansion, H / 8, W / 8] in the end.
        """
        if number == 0:
            stem = F.relu(self.bn1(self.conv1(x)))
            return stem, stem
        stages = (self.layer1, self.layer2, self.layer3, self.layer4)
        return run_stage(stages[number - 1], x)

    @property
    def head(self) -> nn.Linear:
        """The classifier."""
        return self.linear

    def batch_norms_before_relu(self) -> tuple[nn.BatchNorm2d, ...]:
        """Return the last batch norm of each stage; the shortcut is added to its output."""
        stages = (self.layer1, self.layer2, self.layer3, self.layer4)
        return batch_norms(*(stage[-1].last_batch_norm for stage in stages))


def _stage(
    block: Block, in_channels: int, channels: int, num_blocks: int, stride: int
) -> nn.Sequential:
    out = channels * block.expansion
    rest = (block(out, channels, 1) for _ in range(num_blocks - 1))
    return nn.Sequential(block(in_channels, channels, stride), *rest)


@model(stages=4)
def resnet18(num_classes: int) -> FourStageResNet:
    """CIFAR ResNet-18, 11.2 M parameters."""
    return FourStageResNet(BasicBlock, (2, 2, 2, 2), num_classes)


@model(stages=4)
def resnet34(num_classes: int) -> FourStageResNet:
    """CIFAR ResNet-34, 21.3 M parameters."""
    return FourStageResNet(BasicBlock, (3, 4, 6, 3), num_classes)


@model(stages=4)
def resnet50(num_classes: int) -> FourStageResNet:
    """CIFAR ResNet-50, 23.7 M parameters."""
    return FourStageResNet(Bottleneck, (3, 4, 6, 3), num_classes)
