"""The reader over ffcv's compiled pipelines, for datasets that do not fit device memory.

Order and augmentation are this project's own, so it gives the same bytes as the resident reader
whatever the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path

import numba
import numpy as np
import torch
from ffcv.fields.decoders import SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.pipeline.pipeline_spec import PipelineSpec
from ffcv.transforms import ToTensor
from torch import Tensor

from benchmark.base.companion import Companion
from benchmark.base.errors import UserError
from benchmark.base.share import WHOLE, Shard
from benchmark.data.augment import Normalise, normalised_by
from benchmark.data.augmentations import AugmentationInfo
from benchmark.data.batches import Batch
from benchmark.data.companions import no_companions
from benchmark.data.datasets import DatasetInfo
from benchmark.data.erasing import erase, random_boxes
from benchmark.data.ffcv_epoch import Epoch
from benchmark.data.ffcv_guard import kept_threads
from benchmark.data.ffcv_ops import Cell, CropFlipOperation, ResampledDecoder, Table
from benchmark.data.formats import JPEG, Layout
from benchmark.data.normalise_ops import TableNormalise
from benchmark.data.order import BatchPlan, Indices, parts, turns
from benchmark.data.randaugment import LAYERS, WIDTH, random_operations
from benchmark.data.resized_crop import FILTER_NUMBERS, centre_rows, random_rows
from benchmark.data.shown import crop_flip_table
from benchmark.data.sidecar import Sidecar, SplitName
from benchmark.data.verify import check_digest, open_layout

# ffcv refuses more workers than this; a Slurm allocation may show a single CPU.
_MOST_WORKERS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]

# Larger files are not read whole at the start; bench data verify reads them.
_DIGEST_LIMIT = 1 << 30


class _Split:
    """One .beton file behind a compiled pipeline, which is built once."""

    def __init__(
        self, sidecar: Sidecar, data_dir: Path, split: SplitName, info: AugmentationInfo
    ) -> None:
        self.layout: Layout = open_layout(sidecar, data_dir, split)
        if sidecar.splits[split].bytes <= _DIGEST_LIMIT:
            check_digest(sidecar, self.layout, split)
        heights, widths = self.layout.heights, self.layout.widths
        compressed = (self.layout.modes == JPEG).any()
        if info.crop_size is None and (compressed or np.ptp(heights) or np.ptp(widths)):
            raise UserError(
                f"augmentation '{info.name}' needs uncompressed images of one size, and"
                f" {self.layout.path} holds others; use: imagenet"
            )
        self._info = info
        self._random = info.randaugment and split == "train"
        self._cell = Cell()

    def size(self) -> tuple[int, int]:
        """Return (H, W) of the images that come out."""
        size = self._info.crop_size
        return (size, size) if size else (int(self.layout.heights[0]), int(self.layout.widths[0]))

    def build(self, workers: int) -> Loader:
        """Build ffcv's loader of the images alone; labels are known already."""
        if self._info.crop_size is not None:
            layers = LAYERS if self._random else 0
            decoder = ResampledDecoder(self._info.crop_size, self._cell, layers)
            stages = (decoder, [ToTensor()])
        else:
            crop = CropFlipOperation(self._info.padding, self._cell)
            stages = (SimpleRGBImageDecoder(), [crop, ToTensor()])
        with kept_threads():
            return Loader(
                str(self.layout.path),
                batch_size=1,
                num_workers=min(workers, _MOST_WORKERS),
                os_cache=True,
                order=OrderOption.SEQUENTIAL,
                drop_last=False,
                pipelines={
                    "image": PipelineSpec("image", *stages),
                    "label": None,
                    "index": None,
                },
            )

    def images(
        self,
        loader: Loader,
        order: Indices,
        batch_size: int,
        rows_of: Callable[[int, Indices], Table],
    ) -> Iterator[tuple[Indices, Tensor]]:
        """Yield (indices [B], images [B, H, W, 3] uint8), valid until the next."""
        if not len(order):
            return
        loader.batch_size = batch_size  # memory is taken anew for each pass
        passing = Epoch(loader, order, self._cell, rows_of)
        try:
            for begin in range(0, len(order), batch_size):
                yield order[begin : begin + batch_size], next(passing)
        finally:
            passing.close()

    def train_rows(
        self, seed: int, epoch: int, samples: Indices, size: int, number: int, indices: Indices
    ) -> Table:
        """Return the random parameters of batch ``number`` of ``size`` training images.

        ``samples``: what each position of the pass draws as (an image's views differ).
        """
        own = samples[number * size : number * size + len(indices)]
        info = self._info
        if info.crop_size is None:
            return crop_flip_table(info, seed, epoch, own)
        heights, widths = self.layout.heights[indices], self.layout.widths[indices]
        kind = FILTER_NUMBERS[info.interpolation]
        rows = random_rows(
            seed, epoch, own, heights, widths, info.crop_size, info.area, info.ratio, kind
        )
        if not self._random:
            return rows
        operations = random_operations(seed, epoch, own, info.crop_size)
        return np.concatenate([rows, operations.view(np.int64)], axis=1)

    def test_rows(self, number: int, indices: Indices) -> Table:
        """Return the parameters of images that are not augmented."""
        if self._info.crop_size is None:
            middle = self._info.padding
            return np.tile(np.array([middle, middle, 0], np.int64), (len(indices), 1))
        heights, widths = self.layout.heights[indices], self.layout.widths[indices]
        kind = FILTER_NUMBERS[self._info.test_interpolation]
        rows = centre_rows(heights, widths, self._info.crop_size, kind, self._info.resize)
        if not self._random:
            return rows
        nothing = np.full((len(rows), WIDTH), -1.0)
        return np.concatenate([rows, nothing.view(np.int64)], axis=1)


class FfcvBatches:
    """``Batches`` through ffcv with ``workers`` threads (as many as the machine has at most).

    Raises UserError for files that do not fit their sidecar, and for an augmentation that needs
    images of one size if they differ.
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
        workers: int,
    ) -> None:
        if workers < 1:
            raise UserError(f"the ffcv reader needs at least 1 worker, not {workers}")
        self._plan, self._device, self._workers = plan, device, workers
        self._erasing = augmentation.erasing
        self._train = _Split(sidecar, data_dir, "train", augmentation)
        self._test = _Split(sidecar, data_dir, "test", augmentation)
        self.num_classes = sidecar.num_classes
        self.labels = torch.from_numpy(self._train.layout.labels)
        self._test_labels = torch.from_numpy(self._test.layout.labels)
        height, width = self._train.size()
        self.image_shape = (3, height, width)
        by = normalised_by(info, augmentation)
        self._normalise: Callable[[Tensor], Tensor] = (
            TableNormalise(by, channels_last)
            if device.type == "cpu"
            else Normalise(by, width, device, channels_last)
        )

    @property
    def num_train(self) -> int:
        """Number of training images, held-out ones included."""
        return self._plan.num_train

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        return self._plan.steps_per_epoch

    # Compiling a pipeline takes seconds, so each is built when first used.
    @cached_property
    def _train_loader(self) -> Loader:
        return self._train.build(self._workers)

    @cached_property
    def _test_loader(self) -> Loader:
        return self._test.build(self._workers)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the epoch's augmented batches from step ``start`` on."""
        order = self._plan.order(epoch)
        samples = self._plan.views(order)
        own = list(parts(len(order), self._plan.batch_size, self._plan.share, start))
        order = _joined([order[place] for place, _ in own])
        samples = _joined([samples[place] for place, _ in own])
        size = sum(len(part) for part in self._plan.share.parts(self._plan.batch_size))
        rows_of = partial(self._train.train_rows, self._plan.seed, epoch, samples, size)
        images = self._train.images(self._train_loader, order, size, rows_of)
        batches = self._batches(images, self.labels)
        found = self._erased(batches, epoch, samples) if self._erasing else batches
        pairs = zip(found, own, strict=True)
        return (batch._replace(whole=whole) for batch, (_, whole) in pairs)

    def _erased(self, batches: Iterator[Batch], epoch: int, samples: Indices) -> Iterator[Batch]:
        _, height, width = self.image_shape
        begin, seed = 0, self._plan.seed
        for batch in batches:
            own = samples[begin : begin + len(batch.labels)]
            begin += len(own)
            boxes = random_boxes(seed, epoch, own, height, width, self._erasing)
            yield batch._replace(images=erase(batch.images, boxes, seed, epoch, own))

    def companion(self, which: Companion, epoch: int, step: int) -> Batch:
        """Refuse: the file is read in the order of its batches."""
        raise no_companions("ffcv")

    def test(self, batch_size: int, share: Shard = WHOLE) -> Iterator[Batch]:
        """Yield the test set in index order."""
        everything = np.arange(self._test.layout.num_samples, dtype=np.int64)
        order = _joined([everything[p] for p in turns(len(everything), batch_size, share)])
        images = self._test.images(self._test_loader, order, batch_size, self._test.test_rows)
        return self._batches(images, self._test_labels)

    def validation(self, batch_size: int, share: Shard = WHOLE) -> Iterator[Batch]:
        """Yield the held-out images in index order, as test images."""
        everything = self._plan.validation_indices
        order = _joined([everything[p] for p in turns(len(everything), batch_size, share)])
        images = self._train.images(self._train_loader, order, batch_size, self._train.test_rows)
        return self._batches(images, self.labels)

    def _batches(self, images: Iterator[tuple[Indices, Tensor]], labels: Tensor) -> Iterator[Batch]:
        for numbers, pixels in images:
            indices = torch.from_numpy(numbers.copy())
            # ffcv writes its slots again; normalising makes new memory, also on the CPU.
            yield Batch(
                self._normalise(pixels.to(self._device)),
                labels[indices].to(self._device),
                indices.to(self._device),
            )


def _joined(pieces: list[Indices]) -> Indices:
    return np.concatenate(pieces) if pieces else np.empty(0, np.int64)
