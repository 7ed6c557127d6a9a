"""What methods with several networks or branches share: building them, their labels, the mean."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.methods._precision import full_precision
from benchmark.methods.base import Probe, Setup
from benchmark.models.features import Features, Model


def build_peers(setup: Setup, count: int, network: str) -> nn.ModuleList:
    """Return ``count`` fresh networks of one architecture, each of a role of its own."""
    return nn.ModuleList(setup.build(f"peer{i}", network) for i in range(1, count + 1))


def build_tails(setup: Setup, count: int, stage: int) -> nn.ModuleList:
    """Return ``count`` fresh copies of what follows the student's ``stage``."""
    return nn.ModuleList(setup.tail(f"branch{i}", stage) for i in range(1, count + 1))


def models(parts: nn.ModuleList) -> list[Model]:
    """Return the networks or tails of a list, as what they are."""
    return [part for part in parts if isinstance(part, Model)]


def branch_stage(probe: Probe, stage: int | None) -> int:
    """Return the stage that branches start from: the one given, or the last but one."""
    return len(probe.features.stages) - 2 if stage is None else stage


@full_precision
def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels)


def labels_terms(logits: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
    """Return the cross-entropies of the networks beside the student: ce1, ce2, ..."""
    return {f"ce{i}": _cross_entropy(z, labels) for i, z in enumerate(logits, 1)}


def mean_logits(logits: Sequence[Tensor]) -> Tensor:
    """Return the ensemble: the mean of several networks' logits [B, K]."""
    return torch.stack(list(logits)).mean(0)


class Trunk(Model):
    """The first stages of a network that somebody else owns, as a network of its own.

    Its only map is that of ``stage``, which stands for logits and pooled vector, too.
    """

    def __init__(self, network: Model, stage: int) -> None:
        super().__init__()
        self._network, self._stage = (network,), stage

    def features(self, images: Tensor) -> Features:
        """Return the map after the stage as ``stages[0]``."""
        map_ = self._network[0].trunk(self._stage, images)
        return Features(map_, map_, (map_,), (map_,))
