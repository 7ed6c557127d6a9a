"""RedNet: residual networks whose 3x3 convolutions are involutions.

Li et al. 2021, "Involution: Inverting the Inherence of Convolution for Visual Recognition"
(arXiv:2103.06255), as d-li14/involution@21c3158 (cls/mmcls/models/backbones/rednet.py), in plain
torch in the place of mmcv and a CUDA kernel; the keys are those of that code, so its files load
(``backbone.`` and ``head.fc`` are renamed). Co-advising takes RedNet-101 (78.92 %) for its second
teacher and its stem for the student's.
"""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.models import model
from benchmark.models.averaged import AveragedModel
from benchmark.models.layers import batch_norms, conv1x1, projection

_GROUP, _REDUCTION = 16, 4
_BLOCKS = {26: (1, 2, 4, 1), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class Involution(nn.Module):
    """Weights of each place from its own channels, shared by groups of 16 channels.

    [B, C, H, W] -> [B, C, H / stride, W / stride]. A 1x1 convolution to C / 4, batch norm, ReLU
    and a 1x1 convolution with bias give k * k weights for each group and place.
    """

    def __init__(self, channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride
        self.groups = channels // _GROUP
        self.conv1 = conv_norm_relu(channels, channels // _REDUCTION, 1)
        weights = nn.Conv2d(channels // _REDUCTION, kernel_size**2 * self.groups, 1)
        self.conv2 = nn.Sequential(OrderedDict(conv=weights))

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted sums over each place's surroundings."""
        pooled = F.avg_pool2d(x, self.stride, self.stride) if self.stride > 1 else x
        weight = self.conv2(self.conv1(pooled))
        b, _, h, w = weight.shape
        size = self.kernel_size
        weight = weight.reshape(b, self.groups, 1, size**2, h, w)
        around = F.unfold(x, size, padding=(size - 1) // 2, stride=self.stride)
        around = around.view(b, self.groups, _GROUP, size**2, h, w)
        found: Tensor = (weight * around).sum(3).reshape(b, -1, h, w)
        return found


def conv_norm_relu(inputs: int, outputs: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution without bias that keeps the size at stride 1, batch norm, ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel_size, stride, (kernel_size - 1) // 2, bias=False)
    parts = OrderedDict(conv=conv, bn=nn.BatchNorm2d(outputs), activate=nn.ReLU())
    return nn.Sequential(parts)


def rednet_stem() -> nn.Sequential:
    """Return the stem: 3x3 at stride 2 to 32, an involution of 3x3, 3x3 to 64 channels."""
    return nn.Sequential(
        conv_norm_relu(3, 32, 3, stride=2),
        Involution(32, 3),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        conv_norm_relu(32, 64, 3),
    )


class _Involved(nn.Module):
    """A bottleneck whose middle is an involution of 7x7; ends before its last ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        middle = outputs // 4
        self.conv1, self.bn1 = conv1x1(inputs, middle), nn.BatchNorm2d(middle)
        self.conv2, self.bn2 = Involution(middle, 7, stride), nn.BatchNorm2d(middle)
        self.conv3, self.bn3 = conv1x1(middle, outputs), nn.BatchNorm2d(outputs)
        changes = stride != 1 or inputs != outputs
        self.downsample = projection(inputs, outputs, stride) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum with the shortcut."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        found: Tensor = self.bn3(self.conv3(x)) + shortcut
        return found


class RedNet(AveragedModel):
    """A RedNet of a depth; initialised as its code: He normal by fan-out, the last scales 0."""

    def __init__(self, depth: int, num_classes: int) -> None:
        super().__init__()
        self.stem = rednet_stem()
        width = 64
        for number, blocks in enumerate(_BLOCKS[depth], start=1):
            outputs, stride = 128 * 2**number, 1 if number == 1 else 2
            first, others = (width, outputs, stride), [(outputs, outputs, 1)] * (blocks - 1)
            layer = nn.Sequential(*(_Involved(*sizes) for sizes in [first, *others]))
            self.add_module(f"layer{number}", layer)
            width = outputs
        self.fc = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, _Involved):
                nn.init.zeros_(module.bn3.weight)
        nn.init.normal_(self.fc.weight, 0.0, 0.01)
        nn.init.zeros_(self.fc.bias)

    @property
    def num_stages(self) -> int:
        """Four."""
        return 4

    def stage(self, number: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the stem [B, 64, H / 2, W / 2] or a stage; max-pooling is the first stage's."""
        if number == 0:
            stem = self.stem(x)
            return stem, stem
        before = x = F.max_pool2d(x, 3, 2, padding=1) if number == 1 else x
        for block in self.get_submodule(f"layer{number}").children():
            before = block(x)
            x = F.relu(before)
        return x, before

    def batch_norms_before_relu(self) -> tuple[nn.BatchNorm2d, ...]:
        """Return the last batch norm of every stage."""
        layers = [list(self.get_submodule(f"layer{number}").children()) for number in range(1, 5)]
        return batch_norms(*(layer[-1].bn3 for layer in layers))


@model(stages=4)
def rednet26(num_classes: int) -> RedNet:
    """RedNet-26."""
    return RedNet(26, num_classes)


@model(stages=4)
def rednet50(num_classes: int) -> RedNet:
    """RedNet-50."""
    return RedNet(50, num_classes)


@model(stages=4)
def rednet101(num_classes: int) -> RedNet:
    """RedNet-101."""
    return RedNet(101, num_classes)
