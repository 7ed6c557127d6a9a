"""What a probe sees of a run: student and methods after an epoch, and the same images always."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from benchmark.data.batches import Batch, Batches
from benchmark.models.features import Features
from benchmark.train.losses import AnyMethod
from benchmark.train.network import Network

IMAGES = 256  # at most; a probe with gradients takes one batch of them


class ProbeImages:
    """The images of a pack's probes in batches, and what the teacher makes of them."""

    def __init__(self, batches: Batches, teacher: Network | None) -> None:
        self._batches, self._teacher = batches, teacher
        self._taught: dict[int, Features] = {}

    @cached_property
    def batches(self) -> tuple[Batch, ...]:
        """Batches of training images; of several processes those that the first one carries."""
        found: list[Batch] = []
        with contextlib.closing(self._epoch()) as epoch:
            for batch in itertools.islice(epoch, self._batches.steps_per_epoch):
                found.append(batch)
                if sum(len(one.labels) for one in found) >= IMAGES:
                    break
        return tuple(found)

    def _epoch(self) -> Any:
        return self._batches.epoch(1)

    def taught(self, number: int) -> Features | None:
        """Return the teacher's logits and pooled vectors of a batch, None without a teacher."""
        if self._teacher is None:
            return None
        if number not in self._taught:
            with torch.no_grad():
                found = self._teacher.features(self.batches[number].images)
            self._taught[number] = found.only(["pooled"])
        return self._taught[number]


@dataclass(frozen=True)
class Observation:
    """A run in eval mode after an epoch. ``methods``: the row's, by name.

    ``batches``: training images, the same after every epoch.
    """

    student: Network
    methods: Sequence[tuple[str, AnyMethod]]
    shown: ProbeImages

    @property
    def batches(self) -> tuple[Batch, ...]:
        """The images in batches as large as training's, 256 images or a few more in all."""
        return self.shown.batches

    def features(self, batch: Batch) -> Features:
        """Return the student's features of a batch, with gradients unless told otherwise."""
        return self.student.run(self.student.model, batch.images)

    def taught(self, number: int) -> Features | None:
        """Return what the teacher makes of the batch of that number, None without a teacher."""
        found = self.shown.taught(number)
        return None if found is None else self.student.reads(found)
