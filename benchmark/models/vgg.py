"""VGG of Simonyan and Zisserman 2014 (arXiv:1409.1556) with batch norm, for CIFAR.

Five blocks of 3x3 convolutions at 32, 16, 8, 4 and 4 pixels, then the mean over the map and one
linear layer. Each ``block{i}`` ends in its last batch norm: the ReLU after it is applied by the
network, which so has both sides of it.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.models import model
from benchmark.models.averaged import AveragedModel
from benchmark.models.layers import batch_norms, init_convolutions

WIDTHS = (64, 128, 256, 512, 512)


class VGG(AveragedModel):
    """VGG; ``num_convs`` are the convolutions of each block."""

    def __init__(self, num_convs: tuple[int, int, int, int, int], num_classes: int) -> None:
        super().__init__()
        in_channels = (3, *WIDTHS[:-1])
        for i, (start, width, count) in enumerate(zip(in_channels, WIDTHS, num_convs, strict=True)):
            self.add_module(f"block{i}", _block(start, width, count))
        self.classifier = nn.Linear(WIDTHS[-1], num_classes)
        init_convolutions(self)
        self.init_linear(self.classifier)

    @property
    def num_stages(self) -> int:
        """Four: the first of the five blocks counts as the stem."""
        return len(WIDTHS) - 1

    def stage(self, number: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run a block; the first block's map stands for what precedes its ReLU.

        Maps are halved before blocks 1 to 3, and before block 4 only for images of 64 pixels
        (which arrive there at 8).
        """
        if 1 <= number <= 3 or (number == 4 and x.shape[2] == 8):
            x = F.max_pool2d(x, 2)
        before = self.get_submodule(f"block{number}")(x)
        x = F.relu(before)
        return x, before if number > 0 else x

    def init_linear(self, linear: nn.Linear) -> None:
        """Draw weights from N(0, 0.01^2), biases 0."""
        nn.init.normal_(linear.weight, 0.0, 0.01)
        nn.init.zeros_(linear.bias)

    @property
    def head(self) -> nn.Linear:
        """The classifier."""
        return self.classifier

    def batch_norms_before_relu(self) -> tuple[nn.BatchNorm2d, ...]:
        """Return the last layer of blocks 1 to 4."""
        blocks = (self.get_submodule(f"block{i}") for i in range(1, len(WIDTHS)))
        return batch_norms(*(list(block.children())[-1] for block in blocks))


def _block(in_channels: int, width: int, num_convs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(num_convs):
        layers.append(nn.Conv2d(in_channels if i == 0 else width, width, 3, padding=1))
        layers.append(nn.BatchNorm2d(width))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers[:-1])


@model(stages=4)
def vgg8(num_classes: int) -> VGG:
    """VGG-8 with batch norm, 3.97 M parameters."""
    return VGG((1, 1, 1, 1, 1), num_classes)


@model(stages=4)
def vgg11(num_classes: int) -> VGG:
    """VGG-11 with batch norm, 9.28 M parameters."""
    return VGG((1, 1, 2, 2, 2), num_classes)


@model(stages=4)
def vgg13(num_classes: int) -> VGG:
    """VGG-13 with batch norm, 9.46 M parameters."""
    return VGG((2, 2, 2, 2, 2), num_classes)


@model(stages=4)
def vgg16(num_classes: int) -> VGG:
    """VGG-16 with batch norm, 14.8 M parameters."""
    return VGG((2, 2, 3, 3, 3), num_classes)


@model(stages=4)
def vgg19(num_classes: int) -> VGG:
    """VGG-19 with batch norm, 20.1 M parameters."""
    return VGG((2, 2, 4, 4, 4), num_classes)
