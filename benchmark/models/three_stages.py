"""What CIFAR's residual networks share: a stem, three stages of blocks, a mean, a classifier."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.models.averaged import AveragedModel
from benchmark.models.layers import batch_norms, run_stage


class ThreeStages(AveragedModel):
    """A network of these parts, under the names of the public checkpoints.

    Its blocks return their output before the last ReLU and end with the batch norm ``last_norm``.
    """

    last_norm = "bn3"
    conv1: nn.Conv2d
    bn1: nn.BatchNorm2d
    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    fc: nn.Linear

    @property
    def num_stages(self) -> int:
        """Three."""
        return 3

    def stage(self, number: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the stem or a stage; the stem's map stands for what precedes its ReLU."""
        if number == 0:
            stem = F.relu(self.bn1(self.conv1(x)))
            return stem, stem
        return run_stage((self.layer1, self.layer2, self.layer3)[number - 1], x)

    def batch_norms_before_relu(self) -> tuple[nn.BatchNorm2d, ...]:
        """Return the last batch norm of each stage; the shortcut is added to its output."""
        stages = (self.layer1, self.layer2, self.layer3)
        return batch_norms(*(getattr(stage[-1], self.last_norm) for stage in stages))
