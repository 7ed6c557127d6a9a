"""What the training loop sees of the data: batches of an epoch, whichever reader made them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from benchmark.base.companion import Companion
from benchmark.base.share import WHOLE, Shard


class Batch(NamedTuple):
    """Some images on the reader's device.

    images [B, C, H, W] float32, normalised (channels_last memory if that was asked for);
    labels [B] int64; indices [B] int64, positions in the training set (in the test set for test
    batches). The tensors are the caller's: no reader writes to them again.

    targets [B, K] float32 if images are mixed (data/mixing.py): the mixed, smoothed labels;
    ``labels`` then are the classes of the larger shares.

    variants [B] int64 number what the augmentation made of each image, below its
    ``num_variants``: images of one index and variant have the same pixels. None if there are
    too many to number, in test batches, and from the ffcv reader.

    whole: how many images the step's batch has in all replicas, if these are those that one
    process carries, replica by replica (base/share.py); None for a batch that is not cut.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    targets: Tensor | None = None
    variants: Tensor | None = None
    whole: int | None = None


class Batches(Protocol):
    """A dataset as a run reads it.

    ``num_train`` counts all training images, held-out ones included, so that an index always
    fits a table of that length; ``labels`` [num_train] int64 on the CPU, in index order;
    ``image_shape`` is (C, H, W) of a batch's images.
    """

    @property
    def num_classes(self) -> int:
        """Number of classes K; labels are 0 to K - 1."""

    @property
    def num_train(self) -> int:
        """Number of training images N."""

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches that :meth:`epoch` yields from step 0 on."""

    @property
    def labels(self) -> Tensor:
        """All training labels [N] int64, on the CPU."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the epoch's batches from step ``start`` on: a function of (seed, epoch) alone.

        Of each batch the images of the replicas that this process carries.

        Negative epochs are as good as others (first stages use them).
        """

    def companion(self, which: Companion, epoch: int, step: int) -> Batch:
        """Return further images of a step. UserError for a reader that cannot read them."""

    def test(self, batch_size: int, share: Shard = WHOLE) -> Iterator[Batch]:
        """Yield the test set in index order, not augmented; of the batches those of ``share``."""

    def validation(self, batch_size: int, share: Shard = WHOLE) -> Iterator[Batch]:
        """Yield the held-out part of the training set like :meth:`test`."""


def cut(batch: Batch, share: Shard) -> list[Batch]:
    """Return the parts of a batch, one for each replica that a process carries."""
    if batch.whole is None:
        return [batch]
    parts, begin = [], 0
    for positions in share.parts(batch.whole):
        end = begin + len(positions)
        fields = (None if v is None else v[begin:end] for v in batch[:5])
        parts.append(Batch(*fields))  # type: ignore[arg-type]
        begin = end
    return parts


def joined(parts: Sequence[Batch]) -> Batch:
    """Return one batch of several parts, in their order."""
    columns = zip(*(part[:5] for part in parts), strict=True)
    fields = (None if v[0] is None else torch.cat(v) for v in columns)
    return Batch(*fields)  # type: ignore[arg-type]


def size_of(batch: Batch) -> int:
    """Return how many images a step's batch has in all replicas."""
    return len(batch.labels) if batch.whole is None else batch.whole
