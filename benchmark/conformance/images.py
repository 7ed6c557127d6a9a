"""A handful of real images in memory, offered as the training loop reads any dataset."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.base.companion import Companion
from benchmark.base.share import WHOLE, Shard
from benchmark.data.batches import Batch


class FewImages:
    """Images [N, C, H, W] and labels [N] as ``Batches`` (see data/batches.py), not augmented.

    With ``holds_out`` the first images pose as held-out ones, too.

    ``labels`` of the whole training set may be longer than the images, as methods with a
    memory of every sample need it at its true size.
    """

    def __init__(self, images: Tensor, labels: Tensor, num_classes: int, batch_size: int) -> None:
        self.images = images
        self.labels = labels
        self.num_classes = num_classes
        self.batch_size = batch_size
        self.num_train = len(labels)
        self.holds_out = False
        self.steps_per_epoch = -(-len(images) // batch_size)
        self.image_shape = (images.shape[1], images.shape[2], images.shape[3])

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the epoch's batches from step ``start`` on, rotated by the epoch's number."""
        for step in range(start, self.steps_per_epoch):
            yield self._batch(self._part(epoch, step))

    def companion(self, which: Companion, epoch: int, step: int) -> Batch:
        """Return further images: shifted in brightness by their number, so that all differ."""
        if which.kind == "previous":
            if step == 0 and epoch == 1:
                return self._batch(torch.arange(0))
            before = (epoch, step - 1) if step else (epoch - 1, self.steps_per_epoch - 1)
            return self._brighter(self._batch(self._part(*before)), which.number)
        indices = self._part(epoch, step)
        if which.kind == "class":
            same = [
                torch.nonzero(self.labels[: len(self.images)] == self.labels[i]) for i in indices
            ]
            turn = epoch + step + which.number
            indices = torch.stack([places[turn % len(places), 0] for places in same])
        return self._brighter(self._batch(indices), which.number + (which.kind == "class"))

    def _part(self, epoch: int, step: int) -> Tensor:
        order = torch.arange(len(self.images)).roll(epoch)
        return order[step * self.batch_size : (step + 1) * self.batch_size]

    def _batch(self, indices: Tensor) -> Batch:
        return Batch(self.images[indices], self.labels[indices], indices)

    @staticmethod
    def _brighter(batch: Batch, number: int) -> Batch:
        return batch._replace(images=batch.images + 0.1 * number)

    def test(self, batch_size: int, share: Shard = WHOLE) -> Iterator[Batch]:
        """Yield the first images as a test set."""
        indices = torch.arange(min(4, len(self.images)))
        yield self._batch(indices)

    def validation(self, batch_size: int, share: Shard = WHOLE) -> Iterator[Batch]:
        """Yield the first images if some are to be held out, else nothing."""
        return self.test(batch_size) if self.holds_out else iter(())


def digit_images(
    count: int, size: int, batch_size: int, num_labels: int | None = None, num_classes: int = 10
) -> FewImages:
    """Return the first ``count`` of scikit-learn's digits as grey RGB images of side ``size``.

    They come with the installation. ``num_labels`` pretends a training set of that size,
    ``num_classes`` one with that many classes.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    assert count <= len(labels)
    grey = torch.from_numpy(pixels[:count]).float().view(-1, 1, 8, 8) / 8.0 - 1.0
    images = F.interpolate(grey, size=(size, size), mode="bilinear", align_corners=False)
    found = torch.from_numpy(labels[:count]).long()
    if num_labels is not None:
        found = torch.arange(num_labels) % num_classes
    return FewImages(images.expand(-1, 3, -1, -1).contiguous(), found, num_classes, batch_size)
