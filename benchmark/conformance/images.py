"""A handful of real images in memory, offered as the training loop reads any dataset."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.data.batches import Batch


class FewImages:
    """Images [N, C, H, W] and labels [N] as ``Batches`` (see data/batches.py), not augmented.

    ``labels`` of the whole training set may be longer than the images, as methods with a
    memory of every sample need it at its true size.
    """

    def __init__(self, images: Tensor, labels: Tensor, num_classes: int, batch_size: int) -> None:
        self.images = images
        self.labels = labels
        self.num_classes = num_classes
        self.batch_size = batch_size
        self.num_train = len(labels)
        self.steps_per_epoch = -(-len(images) // batch_size)
        self.image_shape = (images.shape[1], images.shape[2], images.shape[3])

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the epoch's batches from step ``start`` on, rotated by the epoch's number."""
        order = torch.arange(len(self.images)).roll(epoch)
        for begin in range(start * self.batch_size, len(order), self.batch_size):
            indices = order[begin : begin + self.batch_size]
            yield Batch(self.images[indices], self.labels[indices], indices)

    def test(self, batch_size: int) -> Iterator[Batch]:
        """Yield the first images as a test set."""
        indices = torch.arange(min(4, len(self.images)))
        yield Batch(self.images[indices], self.labels[indices], indices)

    def validation(self, batch_size: int) -> Iterator[Batch]:
        """Yield nothing: no image is held out."""
        return iter(())


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
