"""MobileNetV1 of Howard et al. 2017 (arXiv:1704.04861) at full width, for ImageNet.

The student of ResNet-50 in the published ImageNet tables; torch's default initialisation. The
published network's features begin at the 128-channel stage; here the stem (32 channels) stands
before it, as in every other network, so that stages pair with the teacher's by position too.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.models import model
from benchmark.models.averaged import AveragedModel
from benchmark.models.layers import batch_norms, conv1x1, conv3x3

# Output channels and stride of the thirteen blocks.
BLOCKS = (
    (64, 1),
    *((128, 2), (128, 1)),
    *((256, 2), (256, 1)),
    *((512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    *((1024, 2), (1024, 1)),
)
# Positions in ``model`` after which the map is halved next: the ends of the stages.
STAGE_ENDS = (3, 5, 11, 13)


class MobileNetV1(AveragedModel):
    """A strided convolution, thirteen depthwise-separable blocks, one linear layer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        blocks = [nn.Sequential(conv3x3(3, 32, 2), nn.BatchNorm2d(32), nn.ReLU())]
        in_channels = 32
        for channels, stride in BLOCKS:
            blocks.append(_separable(in_channels, channels, stride))
            in_channels = channels
        self.model = nn.Sequential(*blocks)
        self.fc = nn.Linear(in_channels, num_classes)

    @property
    def num_stages(self) -> int:
        """Four."""
        return len(STAGE_ENDS)

    def stage(self, number: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the stem [B, 32, H / 2, W / 2] or the blocks of a stage.

        The stem's map stands for what precedes its ReLU.
        """
        ends = (0, *STAGE_ENDS)
        first = ends[number - 1] + 1 if number else 0
        before = x
        for block in list(self.model)[first : ends[number] + 1]:
            for layer in list(block.children())[:-1]:
                x = layer(x)
            before, x = x, F.relu(x)
        return x, before if number else x

    def batch_norms_before_relu(self) -> tuple[nn.BatchNorm2d, ...]:
        """Return the last batch norm of the four stages after the stem."""
        return batch_norms(*(list(self.model[i].children())[-2] for i in STAGE_ENDS))


def _separable(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        conv3x3(in_channels, in_channels, stride, groups=in_channels),
        nn.BatchNorm2d(in_channels),
        nn.ReLU(),
        conv1x1(in_channels, channels),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


@model(stages=4)
def mobilenetv1(num_classes: int) -> MobileNetV1:
    """MobileNetV1 at full width for 224x224 images, 4.23 M parameters at 1000 classes."""
    return MobileNetV1(num_classes)
