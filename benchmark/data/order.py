"""Which samples stand in which batch: a pure function of the seed and the epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from benchmark.base.errors import UserError
from benchmark.base.share import WHOLE, Shard
from benchmark.data.rng import draws, stream_key

Indices = npt.NDArray[np.int64]


def epoch_order(seed: int, epoch: int, indices: Indices) -> Indices:
    """Return ``indices`` in the order of one epoch: sorted by their random 64-bit draws."""
    keys = draws(stream_key(seed, epoch, "order"), indices)
    return indices[np.argsort(keys, kind="stable")]


def held_out(num_train: int, holdout: int) -> Indices:
    """Return the ``holdout`` indices with the smallest draws, ascending; no seed enters."""
    keys = draws(stream_key(0, 0, "holdout"), np.arange(num_train, dtype=np.int64))
    return np.sort(np.argsort(keys, kind="stable")[:holdout].astype(np.int64))


def repeated(order: Indices, repeats: int, length: int) -> Indices:
    """Return the first ``length`` of ``order`` with each position ``repeats`` times in a row.

    Repeated augmentation (Hoffer et al. 2020; DeiT's and timm's samplers): an epoch is no longer,
    and holds ``repeats`` views of a part of the images. DeiT's process r of N takes every N-th
    from the r-th on, so that its batches of one step are one block of this order.
    """
    return np.repeat(order, repeats)[:length]


@dataclass(frozen=True)
class BatchPlan:
    """The batches of a run over ``num_train`` training images, ``holdout`` of them kept apart.

    ``repeats``: views of an image in an epoch, see :func:`repeated`. ``share``: the replicas that
    this process carries.

    Raises UserError if no batch would be left to train on.
    """

    num_train: int
    seed: int
    batch_size: int
    drop_last: bool = False
    holdout: int = 0
    repeats: int = 1
    share: Shard = WHOLE

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"the batch size must be at least 1, not {self.batch_size}")
        if not 0 <= self.holdout < self.num_train:
            raise UserError(
                f"cannot hold out {self.holdout} of {self.num_train} training images"
                f" (0 to {self.num_train - 1} are possible)"
            )
        if self.steps_per_epoch == 0:
            raise UserError(
                f"a batch of {self.batch_size} is larger than the"
                f" {self.num_train - self.holdout} training images, and incomplete batches are"
                " dropped: no batch is left; lower the batch size or keep incomplete batches"
            )
        self._check_replicas()

    def _check_replicas(self) -> None:
        replicas, last = self.share.replicas, (self.num_train - self.holdout) % self.batch_size
        if self.batch_size % replicas:
            raise UserError(f"{replicas} replicas do not divide a batch of {self.batch_size}")
        if 0 < last < replicas and not self.drop_last:
            raise UserError(
                f"the last batch of an epoch has {last} images for {replicas} replicas; set"
                " recipe.drop_last, or another recipe.batch_size"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        num_images = self.num_train - self.holdout
        if self.drop_last:
            return num_images // self.batch_size
        return -(-num_images // self.batch_size)

    @cached_property
    def validation_indices(self) -> Indices:
        """The held-out positions in the training set, ascending."""
        return held_out(self.num_train, self.holdout)

    @cached_property
    def train_indices(self) -> Indices:
        """The other positions, ascending."""
        everything = np.arange(self.num_train, dtype=np.int64)
        return np.setdiff1d(everything, self.validation_indices, assume_unique=True)

    def order(self, epoch: int) -> Indices:
        """Return the positions that the epoch visits, in order, incomplete batches handled."""
        order = epoch_order(self.seed, epoch, self.train_indices)
        length = min(len(order), self.steps_per_epoch * self.batch_size)
        return repeated(order, self.repeats, length)

    def views(self, order: Indices, start: int = 0) -> Indices:
        """Return which view of its image each position of an epoch's order is, from ``start`` on.

        A view has draws of its own: view v of image i draws as sample v * num_train + i.
        """
        view = np.arange(start, start + len(order), dtype=np.int64) % self.repeats
        return order + view * self.num_train


def parts(
    length: int, batch_size: int, share: Shard, start: int = 0
) -> Iterator[tuple[slice | Indices, int | None]]:
    """Yield which positions of each batch are those of ``share``, and the size of the whole batch.

    Slices, and None, of batches that are not cut.
    """
    for part in slices(length, batch_size, start):
        if share.replicas == 1:
            yield part, None
            continue
        size = part.stop - part.start
        own = [np.arange(one.start, one.stop, one.step) for one in share.parts(size)]
        yield part.start + np.concatenate(own), size


def turns(length: int, batch_size: int, share: Shard) -> list[slice]:
    """Return the batches of an evaluation that ``share`` takes."""
    everything = list(slices(length, batch_size))
    return [everything[number] for number in share.turns(len(everything))]


def slices(length: int, batch_size: int, start: int = 0) -> Iterator[slice]:
    """Yield the slices of consecutive batches, from batch ``start`` on."""
    for begin in range(start * batch_size, length, batch_size):
        yield slice(begin, min(begin + batch_size, length))
