"""The map that a network's classifier sees the mean of."""

from __future__ import annotations

from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.methods.base import Probe
from benchmark.models.features import Features


def last_map(features: Features) -> Tensor:
    """Return the map [B, D, H, W] whose spatial mean is the classifier's input."""
    assert features.last_map is not None, "checked by need_last_map when the method was built"
    return features.last_map


def need_last_map(method: str, *probes: Probe) -> None:
    """Raise UserError if a network's classifier sees something else than the mean of a map."""
    for probe in probes:
        if probe.features.last_map is None:
            raise UserError(
                f"{method} needs a classifier on the mean of a feature map, which {probe.name} "
                "has not; choose a method on logits or pooled features"
            )
