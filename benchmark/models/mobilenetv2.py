"""MobileNetV2 of Sandler et al. 2018 (arXiv:1801.04381) at half width, for CIFAR.

Expansion 6, a stem at stride 2 (so maps of 16, 16, 8, 4 and 2 pixels), and 1280 channels before
the classifier whatever the width, as in the published distillation tables. Deviations from the
paper that the tables share: ReLU instead of ReLU6, no dropout.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from benchmark.models import model
from benchmark.models.features import Features, Model
from benchmark.models.layers import (
    batch_norms,
    conv1x1,
    conv3x3,
    global_average,
    init_convolutions,
)


class BlockGroup(NamedTuple):
    """A row of the paper's table 2: expansion, channels at full width, repetitions, stride."""

    expansion: int
    channels: int
    repeats: int
    stride: int


def groups(expansion: int) -> tuple[BlockGroup, ...]:
    """Return the paper's table 2 for 32x32 images (the second group keeps the size)."""
    return (
        BlockGroup(1, 16, 1, 1),
        BlockGroup(expansion, 24, 2, 1),
        BlockGroup(expansion, 32, 3, 2),
        BlockGroup(expansion, 64, 4, 2),
        BlockGroup(expansion, 96, 3, 1),
        BlockGroup(expansion, 160, 3, 2),
        BlockGroup(expansion, 320, 1, 1),
    )


# The groups after which the map changes: what methods see as stages.
STAGE_ENDS = (1, 2, 4, 6)
LAST_CHANNELS = 1280


class InvertedResidual(nn.Module):
    """Expand (1x1), filter (depthwise 3x3), project (1x1, linear); a sum if shapes agree."""

    def __init__(self, in_channels: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.conv = nn.Sequential(
            conv1x1(in_channels, hidden),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            conv3x3(hidden, hidden, stride, groups=hidden),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            conv1x1(hidden, channels),
            nn.BatchNorm2d(channels),
        )
        self.adds_input = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, channels, H / stride, W / stride]; no activation at the end."""
        out: Tensor = self.conv(x)
        return x + out if self.adds_input else out


class MobileNetV2(Model):
    """Stem, seven groups of inverted residuals, a last 1x1 convolution."""

    def __init__(self, width: float, expansion: int, num_classes: int) -> None:
        super().__init__()
        channels = int(32 * width)
        self.conv1 = nn.Sequential(conv3x3(3, channels, 2), nn.BatchNorm2d(channels), nn.ReLU())
        self.blocks = nn.ModuleList()
        for group in groups(expansion):
            out = int(group.channels * width)
            stride = group.stride
            blocks = []
            for _ in range(group.repeats):
                blocks.append(InvertedResidual(channels, out, stride, group.expansion))
                channels, stride = out, 1
            self.blocks.append(nn.Sequential(*blocks))
        self.conv2 = nn.Sequential(
            conv1x1(channels, LAST_CHANNELS), nn.BatchNorm2d(LAST_CHANNELS), nn.ReLU()
        )
        # A Sequential of one: the checkpoints' key is classifier.0.
        self.classifier = nn.Sequential(nn.Linear(LAST_CHANNELS, num_classes))
        init_convolutions(self)
        self.init_linear(self.head)

    @property
    def num_stages(self) -> int:
        """Four."""
        return len(STAGE_ENDS)

    def stage(self, number: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the stem [B, 16, H / 2, W / 2] or the groups of a stage.

        Its stages are linear (signed): no activation follows them, so they are their own
        pre-activations. The published networks name none.
        """
        if number == 0:
            x = self.conv1(x)
            return x, x
        first = STAGE_ENDS[number - 2] + 1 if number > 1 else 0
        for group in self.blocks[first : STAGE_ENDS[number - 1] + 1]:
            x = group(x)
        return x, x

    def finish(self, stages: tuple[Tensor, ...], preacts: tuple[Tensor, ...]) -> Features:
        """Convolve once more [B, 1280, H / 16, W / 16], average and classify."""
        last_map = self.conv2(stages[-1])
        pooled = global_average(last_map)
        return Features(self.classifier(pooled), pooled, stages, preacts, last_map)

    def init_linear(self, linear: nn.Linear) -> None:
        """Draw weights from N(0, 0.01^2), biases 0."""
        nn.init.normal_(linear.weight, 0.0, 0.01)
        nn.init.zeros_(linear.bias)

    @property
    def head(self) -> nn.Linear:
        """The classifier."""
        linear = self.classifier[0]
        assert isinstance(linear, nn.Linear)
        return linear

    def batch_norms_before_relu(self) -> tuple[nn.BatchNorm2d, ...]:
        """Return the last batch norm of each stage; no ReLU follows it in this network."""
        stages = (self.blocks[i] for i in STAGE_ENDS)
        return batch_norms(*(stage[-1].conv[-1] for stage in stages))  # type: ignore[index]


@model(stages=4)
def mobilenetv2(num_classes: int) -> MobileNetV2:
    """MobileNetV2 at half width with expansion 6, 0.81 M parameters."""
    return MobileNetV2(0.5, 6, num_classes)
