"""What most convolutional networks end with: the mean of the last map, and a linear classifier."""

from __future__ import annotations

from torch import Tensor, nn

from benchmark.models.features import Features, Model
from benchmark.models.layers import global_average


class AveragedModel(Model):
    """A network whose classifier reads the mean [B, C] of its last stage's map.

    It is ``fc``, or what ``head`` returns.
    """

    fc: nn.Linear

    def finish(self, stages: tuple[Tensor, ...], preacts: tuple[Tensor, ...]) -> Features:
        """Average and classify."""
        pooled = global_average(stages[-1])
        return Features(self.head(pooled), pooled, stages, preacts, last_map=stages[-1])

    @property
    def head(self) -> nn.Linear:
        """The classifier."""
        return self.fc
