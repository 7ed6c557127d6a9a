"""What an epoch's steps add up to, kept on the device until the epoch ends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from benchmark.data.batches import Batch
from benchmark.train.history import finite

_IMAGES, CORRECT = "/images", "/correct"


class Sums:
    """Sums of losses by name, of images, and of those that were classified rightly."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}

    def add_terms(self, terms: Mapping[str, Tensor], size: int) -> None:
        """Add losses that are means over a batch of ``size``; those of one name add up."""
        for name, value in terms.items():
            self._add(name, value.detach().double() * size)

    def add_correct(self, logits: Tensor, batch: Batch) -> None:
        """Count the images whose largest logit is their label's."""
        self.add_count(correct(logits, batch))

    def add_count(self, number: Tensor) -> None:
        """Add a number of images that were classified rightly."""
        self._add(CORRECT, number.double())

    def add_images(self, size: int) -> None:
        """Count a batch."""
        self._add(_IMAGES, torch.tensor(float(size), dtype=torch.float64))

    @property
    def finite(self) -> bool:
        """Whether no loss is infinite or NaN; waits for the device."""
        return all(math.isfinite(value.item()) for value in self.values.values())

    def means(self) -> dict[str, Any]:
        """Return the epoch's losses and training accuracy, as they stand in its record."""
        sums = {name: value.item() for name, value in self.values.items()}
        images = max(sums.pop(_IMAGES, 0.0), 1.0)
        right = sums.pop(CORRECT, None)
        return {
            "losses": {name: finite(total / images) for name, total in sums.items()},
            "train_top1": None if right is None else 100 * right / images,
        }

    def load(self, values: Mapping[str, Tensor], device: str) -> None:
        """Continue from what a checkpoint holds."""
        self.values = {name: value.to(device) for name, value in values.items()}

    def _add(self, name: str, value: Tensor) -> None:
        self.values[name] = self.values[name] + value if name in self.values else value


def correct(logits: Tensor, batch: Batch) -> Tensor:
    """Return how many images' largest logit is their label's."""
    return (logits.detach().argmax(1) == batch.labels).sum()
