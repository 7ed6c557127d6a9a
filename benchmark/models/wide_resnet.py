"""Wide residual networks of Zagoruyko and Komodakis 2016 (arXiv:1605.07146), for CIFAR.

Pre-activation blocks: a block's batch norm and ReLU come before its convolutions, so a stage's
map is raw and its pre-activation is what the next stage's first batch norm makes of it.

That batch norm is applied a second time to give the pre-activation. In mdistiller it then updates
its running statistics twice a step (two steps of momentum towards the same batch statistics),
whichever features a method uses; in RepDistiller, DHKD, CAT-KD and ReviewKD's students once, since
they leave pre-activations out if no method asks for them (RepDistiller's AB does). Such networks
evaluate differently after training, so ``norm_updates`` of the recipe says which.
Dropout, which the published recipes set to zero, is left out.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.models import model
from benchmark.models.features import Features, Model
from benchmark.models.layers import batch_norms, conv1x1, conv3x3, global_average, init_convolutions

NormUpdates = Literal["twice", "once"]


class PreactBlock(nn.Module):
    """BN-ReLU-conv twice. If the width changes the shortcut starts after the first ReLU."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        # The checkpoints' name.
        self.convShortcut = (
            None if in_channels == channels else conv1x1(in_channels, channels, stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, H, W] to the raw sum [B, channels, H / stride, W / stride]."""
        active = F.relu(self.bn1(x))
        out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        shortcut: Tensor = x if self.convShortcut is None else self.convShortcut(active)
        return out + shortcut


class Stage(nn.Module):
    """Blocks of one width under the checkpoints' name ``layer``."""

    def __init__(self, num_blocks: int, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        blocks = [PreactBlock(in_channels, channels, stride)]
        blocks += [PreactBlock(channels, channels, 1) for _ in range(num_blocks - 1)]
        self.layer = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks."""
        out: Tensor = self.layer(x)
        return out


class WideResNet(Model):
    """WRN-``depth``-``width``: stem of 16 channels, three stages of 16, 32 and 64 times width.

    ``norm_updates``: how often a step the batch norms after the stages move their statistics.
    """

    def __init__(
        self, depth: int, width: int, num_classes: int, norm_updates: NormUpdates = "twice"
    ) -> None:
        super().__init__()
        self._moves_twice = norm_updates == "twice"
        assert (depth - 4) % 6 == 0, "a wide ResNet has 6n + 4 layers"
        num_blocks = (depth - 4) // 6
        self.conv1 = conv3x3(3, 16)
        self.block1 = Stage(num_blocks, 16, 16 * width, stride=1)
        self.block2 = Stage(num_blocks, 16 * width, 32 * width, stride=2)
        self.block3 = Stage(num_blocks, 32 * width, 64 * width, stride=2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, num_classes)
        init_convolutions(self)
        self.init_linear(self.fc)

    @property
    def num_stages(self) -> int:
        """Three."""
        return 3

    def stage(self, number: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the stem or a stage; maps are raw (signed), and stand for their pre-activations here.

        Maps are [B, 16, H, W], then [B, width * 16, H, W] to [B, width * 64, H / 4, W / 4].
        """
        run = (self.conv1, self.block1, self.block2, self.block3)[number]
        out: Tensor = run(x)
        return out, out

    def finish(self, stages: tuple[Tensor, ...], preacts: tuple[Tensor, ...]) -> Features:
        """Normalise, average, classify; the pre-activation of a stage follows a batch norm."""
        last_map = F.relu(self.bn1(stages[-1]))
        pooled = global_average(last_map)
        # Each of the three has run once before: this is the second time in a step.
        first = max(1, 4 - len(stages))
        places = range(first, 4)
        normed = [self._normed(n, x) for n, x in zip(places, stages[-len(places) :], strict=True)]
        preacts = (*preacts[: -len(places)], *normed)
        return Features(self.fc(pooled), pooled, stages, preacts, last_map)

    def _normed(self, number: int, x: Tensor) -> Tensor:
        """Return what the batch norm after a stage makes of its map, by the same statistics."""
        norm = self._norm_after(number)
        assert isinstance(norm, nn.BatchNorm2d)
        if self._moves_twice or not norm.training:
            normed: Tensor = norm(x)
            return normed
        return F.batch_norm(x, None, None, norm.weight, norm.bias, True, 0.0, norm.eps)

    def init_linear(self, linear: nn.Linear) -> None:
        """Leave the weights as torch draws them; biases 0."""
        nn.init.zeros_(linear.bias)

    @property
    def head(self) -> nn.Linear:
        """The classifier."""
        return self.fc

    def batch_norms_before_relu(self) -> tuple[nn.BatchNorm2d, ...]:
        """Return the batch norm that follows each stage: the next stage's first, then the last."""
        return batch_norms(*(self._norm_after(number) for number in (1, 2, 3)))

    def _norm_after(self, number: int) -> nn.Module:
        if number == 3:
            return self.bn1
        following: Stage = (self.block2, self.block3)[number - 1]
        return following.layer[0].get_submodule("bn1")


@model()
def wrn_16_1(num_classes: int, norm_updates: NormUpdates = "twice") -> WideResNet:
    """WRN-16-1, 0.18 M parameters."""
    return WideResNet(16, 1, num_classes, norm_updates)


@model()
def wrn_16_2(num_classes: int, norm_updates: NormUpdates = "twice") -> WideResNet:
    """WRN-16-2, 0.70 M parameters."""
    return WideResNet(16, 2, num_classes, norm_updates)


@model()
def wrn_40_1(num_classes: int, norm_updates: NormUpdates = "twice") -> WideResNet:
    """WRN-40-1, 0.57 M parameters."""
    return WideResNet(40, 1, num_classes, norm_updates)


@model()
def wrn_40_2(num_classes: int, norm_updates: NormUpdates = "twice") -> WideResNet:
    """WRN-40-2, 2.26 M parameters."""
    return WideResNet(40, 2, num_classes, norm_updates)
