"""DenseNet-BC of Huang et al. 2017 (arXiv:1608.06993) for CIFAR: 40 layers, growth 12.

The DenseNet-40-12 of the online distillation tables: bottleneck layers and a compression of
0.5, three blocks of six layers from 24 channels. The code behind those tables
(shaoeric/Peer-Collaborative-Learning@6afb473) leaves out the batch norm after the last block; here
it stands, as in the paper, so that every stage ends in batch norm and ReLU. Convolutions
are drawn by their fan-in, as in that code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.models import model
from benchmark.models.averaged import AveragedModel
from benchmark.models.layers import conv1x1, conv3x3

GROWTH = 12
BOTTLENECK = 4  # a layer's inner width, in growths


class DenseLayer(nn.Module):
    """BN-ReLU-1x1, BN-ReLU-3x3: adds ``GROWTH`` channels to what it is given."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        inner = BOTTLENECK * GROWTH
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv1x1(in_channels, inner)
        self.norm2 = nn.BatchNorm2d(inner)
        self.conv2 = conv3x3(inner, GROWTH)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, in + GROWTH, H, W]."""
        hidden = self.conv1(F.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(F.relu(self.norm2(hidden)))], 1)


class DenseNet(AveragedModel):
    """Stem of 24 channels and three dense blocks with halving transitions between them."""

    def __init__(self, num_layers: int, num_classes: int) -> None:
        super().__init__()
        channels = 2 * GROWTH
        self.conv0 = conv3x3(3, channels)
        blocks, norms, narrowing = [], [], []
        for last in (False, False, True):
            layers = [DenseLayer(channels + i * GROWTH) for i in range(num_layers)]
            channels += num_layers * GROWTH
            blocks.append(nn.Sequential(*layers))
            norms.append(nn.BatchNorm2d(channels))
            if not last:
                narrowing.append(conv1x1(channels, channels // 2))
                channels //= 2
        self.blocks, self.norms = nn.ModuleList(blocks), nn.ModuleList(norms)
        self.narrowing = nn.ModuleList(narrowing)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.fc.bias)

    @property
    def num_stages(self) -> int:
        """Three."""
        return 3

    def stage(self, number: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the stem, or a block with what precedes it; return the map after and before its ReLU.

        The stem's map is raw (signed) and its own pre-activation: [B, 24, H, W]. Stages are
        [B, 96, H, W], [B, 120, H / 2, W / 2] and [B, 132, H / 4, W / 4].
        """
        if number == 0:
            stem = self.conv0(x)
            return stem, stem
        if number > 1:
            x = F.avg_pool2d(self.narrowing[number - 2](x), 2)
        before = self.norms[number - 1](self.blocks[number - 1](x))
        return F.relu(before), before

    def batch_norms_before_relu(self) -> tuple[nn.BatchNorm2d, ...]:
        """Return the batch norm that follows each block."""
        return tuple(norm for norm in self.norms if isinstance(norm, nn.BatchNorm2d))


@model()
def densenet40_12(num_classes: int) -> DenseNet:
    """DenseNet-BC-40, growth 12, 0.19 M parameters."""
    return DenseNet(6, num_classes)
