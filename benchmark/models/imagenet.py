"""ImageNet networks from torchvision and timm, with their features.

Both libraries are imported when a network of theirs is built, not before: they cost seconds.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.base.torchvision_shim import make_torchvision_importable
from benchmark.models import model
from benchmark.models.averaged import AveragedModel
from benchmark.models.features import Model
from benchmark.models.layers import batch_norms


class TorchvisionResNet(AveragedModel):
    """A torchvision ResNet: its parts, keys and initialisation, with features.

    The blocks' own forward ends in a ReLU in place, which leaves no map from before it; blocks
    are therefore run from their parts.
    """

    def __init__(self, name: str, num_classes: int) -> None:
        super().__init__()
        make_torchvision_importable()
        import torchvision.models

        network = torchvision.models.get_model(name, weights=None, num_classes=num_classes)
        self.conv1: nn.Conv2d = network.conv1
        self.bn1: nn.BatchNorm2d = network.bn1
        self.layer1: nn.Sequential = network.layer1
        self.layer2: nn.Sequential = network.layer2
        self.layer3: nn.Sequential = network.layer3
        self.layer4: nn.Sequential = network.layer4
        self.fc: nn.Linear = network.fc

    @property
    def num_stages(self) -> int:
        """Four."""
        return 4

    def stage(self, number: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the stem [B, 64, H / 2, W / 2] or a stage.

        The stem's map is taken before the max-pooling, which is the first stage's, and stands for
        what precedes its ReLU, as in the published ImageNet tables.
        """
        if number == 0:
            stem = F.relu(self.bn1(self.conv1(x)))
            return stem, stem
        if number == 1:
            x = F.max_pool2d(x, 3, 2, padding=1)
        before = x
        for block in (self.layer1, self.layer2, self.layer3, self.layer4)[number - 1]:
            before = _before_last_relu(block, x)
            x = F.relu(before)
        return x, before

    def batch_norms_before_relu(self) -> tuple[nn.BatchNorm2d, ...]:
        """Return the last batch norm of stages 2 to 4: the published ones name no first."""
        blocks = (layer[-1] for layer in (self.layer2, self.layer3, self.layer4))
        return batch_norms(*(getattr(b, "bn3", None) or b.bn2 for b in blocks))


def _before_last_relu(block: nn.Module, x: Tensor) -> Tensor:
    """Run a BasicBlock or a Bottleneck of torchvision up to the sum with its shortcut."""
    parts = dict(block.named_children())
    out: Tensor = parts["bn1"](parts["conv1"](x))
    out = parts["bn2"](parts["conv2"](F.relu(out)))
    if "conv3" in parts:
        out = parts["bn3"](parts["conv3"](F.relu(out)))
    return out + (parts["downsample"](x) if "downsample" in parts else x)


def timm_model(
    name: str, num_classes: int, drop_path: float = 0.0, image_size: int | None = None
) -> Model:
    """Build the network ``name`` of timm with timm's own initialisation.

    Raises UserError for networks whose features or head cannot be told apart.
    """
    from benchmark.models.timm_networks import build

    return build(name, num_classes, drop_path, image_size)


@model(stages=4)
def tv_resnet18(num_classes: int) -> TorchvisionResNet:
    """torchvision's ResNet-18."""
    return TorchvisionResNet("resnet18", num_classes)


@model(stages=4)
def tv_resnet34(num_classes: int) -> TorchvisionResNet:
    """torchvision's ResNet-34."""
    return TorchvisionResNet("resnet34", num_classes)


@model(stages=4)
def tv_resnet50(num_classes: int) -> TorchvisionResNet:
    """torchvision's ResNet-50."""
    return TorchvisionResNet("resnet50", num_classes)


@model(stages=4)
def tv_resnet101(num_classes: int) -> TorchvisionResNet:
    """torchvision's ResNet-101."""
    return TorchvisionResNet("resnet101", num_classes)


@model(stages=4)
def tv_resnet152(num_classes: int) -> TorchvisionResNet:
    """torchvision's ResNet-152."""
    return TorchvisionResNet("resnet152", num_classes)
