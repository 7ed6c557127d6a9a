"""The reader that keeps a dataset of small images in device memory.

All pixels are copied to the device once, as bytes; an epoch is then a gather of crops, a flip and
a normalisation on that device, and no worker, queue or copy stands between two steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmark.base.companion import Companion
from benchmark.base.share import WHOLE, Shard
from benchmark.data.augment import (
    CropFlip,
    Normalise,
    crop_flip,
    crops_of,
    flipped,
    pad,
    variants,
    windows,
)
from benchmark.data.augmentations import AugmentationInfo
from benchmark.data.batches import Batch
from benchmark.data.companions import Companions
from benchmark.data.datasets import DatasetInfo
from benchmark.data.formats import Bytes, Layout, read_pixels
from benchmark.data.order import BatchPlan, Indices, parts, turns
from benchmark.data.sidecar import Sidecar, SplitName
from benchmark.data.verify import check_digest, open_layout


class ResidentBatches:
    """``Batches`` from raw .beton files of one image size, of which it checks the digests.

    Raises UserError for compressed images, several sizes, or content that was changed.
    """

    def __init__(
        self,
        info: DatasetInfo,
        sidecar: Sidecar,
        data_dir: Path,
        plan: BatchPlan,
        augmentation: AugmentationInfo,
        device: torch.device,
        channels_last: bool,
    ) -> None:
        self._sidecar, self._data_dir = sidecar, data_dir
        self._plan, self._augmentation, self._device = plan, augmentation, device
        layout, pixels = self._read("train")
        self.num_classes = sidecar.num_classes
        self.labels = torch.from_numpy(layout.labels)
        self.image_shape = (3, pixels.shape[1], pixels.shape[2])
        self._normalise = Normalise(info, pixels.shape[2], device, channels_last)
        self._train_labels = self.labels.to(device)
        self._padded = pad(torch.from_numpy(pixels).to(device), augmentation.padding)

    def _read(self, split: SplitName) -> tuple[Layout, Bytes]:
        layout = open_layout(self._sidecar, self._data_dir, split)
        pixels = read_pixels(layout)
        check_digest(self._sidecar, layout, split, pixels)
        return layout, pixels

    @property
    def num_train(self) -> int:
        """Number of training images, held-out ones included."""
        return self._plan.num_train

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        return self._plan.steps_per_epoch

    @cached_property
    def _test_set(self) -> tuple[Tensor, Tensor]:
        layout, pixels = self._read("test")
        labels = torch.from_numpy(layout.labels)
        return torch.from_numpy(pixels).to(self._device), labels.to(self._device)

    @cached_property
    def _crops(self) -> Tensor:
        _, height, width = self.image_shape
        return windows(self._padded, height, width)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the epoch's augmented batches from step ``start`` on."""
        positions = self._plan.order(epoch)
        order = samples = torch.from_numpy(positions).to(self._device)
        if self._plan.repeats > 1:
            samples = torch.from_numpy(self._plan.views(positions)).to(self._device)
        crops = crop_flip(self._augmentation, self._plan.seed, epoch, samples)
        numbers = variants(self._augmentation, crops)
        for place, whole in parts(len(order), self._plan.batch_size, self._plan.share, start):
            part = place if isinstance(place, slice) else torch.from_numpy(place).to(self._device)
            indices = order[part]
            images = self._cropped(indices, CropFlip(*(value[part] for value in crops)))
            labels = self._train_labels[indices]
            yield Batch(images, labels, indices, variants=numbers[part], whole=whole)

    def pictures(self, indices: Tensor, numbers: Tensor) -> Batch:
        """Return images [B] of the training set in the variants [B] that are asked for."""
        images = self._cropped(indices, crops_of(self._augmentation, numbers))
        return Batch(images, self._train_labels[indices], indices, variants=numbers)

    def _cropped(self, indices: Tensor, crops: CropFlip) -> Tensor:
        images = self._crops[indices, crops.top, crops.left]
        if self._augmentation.flip:
            images = flipped(images, crops.flip)
        return self._normalise(images)

    def companion(self, which: Companion, epoch: int, step: int) -> Batch:
        """Return further images of a step."""
        found = self._companions.samples(which, epoch, step)
        indices = torch.from_numpy(found.indices).to(self._device)
        drawn = torch.from_numpy(found.drawn_for).to(self._device)
        info, seed = self._augmentation, self._plan.seed
        crops = crop_flip(info, seed, found.epoch, drawn, which.number, found.purpose)
        labels = self._train_labels[indices]
        return Batch(self._cropped(indices, crops), labels, indices, whole=found.whole)

    @cached_property
    def _companions(self) -> Companions:
        return Companions(self._plan, self.labels.numpy())

    def test(self, batch_size: int, share: Shard = WHOLE) -> Iterator[Batch]:
        """Yield the test set in index order."""
        images, labels = self._test_set
        for part in turns(len(labels), batch_size, share):
            indices = torch.arange(part.start, part.stop, device=self._device)
            yield Batch(self._normalise(images[part]), labels[part], indices)

    def validation(self, batch_size: int, share: Shard = WHOLE) -> Iterator[Batch]:
        """Yield the held-out images in index order, as test images."""
        held_out: Indices = self._plan.validation_indices
        middle = self._augmentation.padding
        for part in turns(len(held_out), batch_size, share):
            indices = torch.from_numpy(np.ascontiguousarray(held_out[part])).to(self._device)
            images = self._crops[indices, middle, middle]
            yield Batch(self._normalise(images), self._train_labels[indices], indices)
