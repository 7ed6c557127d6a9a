"""Mixup and CutMix of whole batches with soft targets, whatever reads the images.

timm's ``Mixup(mode="batch")`` (Zhang et al. 2018; Yun et al. 2019): one lambda, and one box, for
a batch. They are a function of (seed, epoch, step); the partner is the reversed batch, the sample
before (FunMatch, big_vision) or a random permutation (mmpretrain). Targets are mixed after label
smoothing, in float32 as timm's are. Each replica mixes its own part of a batch, by draws of its
own, as each process of a published multi-GPU run did.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmark.base.companion import Companion
from benchmark.base.errors import UserError
from benchmark.base.share import WHOLE, Shard
from benchmark.data.batches import Batch, Batches, cut, joined
from benchmark.data.mixing_ops import blended, in_lines
from benchmark.data.rng import stream_key
from benchmark.table.recipe import Mixing


class Box(NamedTuple):
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right``, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int


class Mix(NamedTuple):
    """How one batch is mixed: the share that an image keeps, and CutMix's box."""

    share: float
    box: Box | None = None


def cutmix_box(
    height: int, width: int, share: float, row: int, column: int, even: bool = False
) -> tuple[Box, float]:
    """Return the box around a centre, cut at the borders, and the share that is left.

    ``even`` spans centre -+ cut // 2, as timm 0.3.2, with which DeiT was trained: odd sides lose a
    pixel.
    """
    ratio = np.sqrt(1 - share)
    cut_height, cut_width = int(height * ratio), int(width * ratio)
    more = 0 if even else 1
    box = Box(
        max(row - cut_height // 2, 0),
        min(row + (cut_height + more) // 2, height),
        max(column - cut_width // 2, 0),
        min(column + (cut_width + more) // 2, width),
    )
    area = (box.bottom - box.top) * (box.right - box.left)
    return box, 1.0 - area / float(height * width)


def draw_mix(mixing: Mixing, seed: int, epoch: int, step: int, height: int, width: int) -> Mix:
    """Return how the batch of one step is mixed."""
    rng = _generator(seed, epoch, step)
    if rng.random() >= mixing.prob:
        return Mix(1.0)
    cut = mixing.cutmix > 0 and (mixing.mixup == 0 or rng.random() < mixing.switch_prob)
    alpha = mixing.cutmix if cut else mixing.mixup
    share = float(rng.beta(alpha, alpha))
    if mixing.larger:
        share = max(share, 1 - share)
    if not cut:
        return Mix(share)
    row, column = int(rng.integers(height)), int(rng.integers(width))
    box, share = cutmix_box(height, width, share, row, column, mixing.even_boxes)
    return Mix(share, box)


def _generator(seed: int, epoch: int, step: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=stream_key(seed, epoch, "mix", step)))


def partners(mixing: Mixing, batch_size: int, seed: int, epoch: int, step: int) -> Tensor:
    """Return for each position of a batch whom it is mixed with, [B] int64."""
    if mixing.partner == "previous":
        return torch.arange(batch_size).roll(1)
    if mixing.partner == "random":
        rng = np.random.Generator(np.random.Philox(stream_key(seed, epoch, "partner", step)))
        return torch.from_numpy(rng.permutation(batch_size))
    return torch.arange(batch_size - 1, -1, -1)


def mixed_images(images: Tensor, other: Tensor, mix: Mix) -> Tensor:
    """Return images [B, C, H, W] mixed with the images of ``other`` [B], in new memory."""
    if mix.share == 1.0:
        return images
    if mix.box is not None:
        top, bottom, left, right = mix.box
        found = images.clone()
        found[:, :, top:bottom, left:right] = images[:, :, top:bottom, left:right][other]
        return found
    if in_lines(images):
        return blended(images, other, mix.share)
    return (images * mix.share).add_(images[other].mul_(1 - mix.share))


def mixed_targets(
    labels: Tensor, other: Tensor, share: float, num_classes: int, smoothing: float
) -> Tensor:
    """Return soft targets [B, K] float32: 1 - eps + eps/K on the label, eps/K elsewhere, mixed."""
    off = smoothing / num_classes
    on = 1.0 - smoothing + off
    targets = torch.full((len(labels), num_classes), off, device=labels.device)
    targets.scatter_(1, labels[:, None], on)
    return targets * share + targets[other] * (1.0 - share)


class MixedBatches:
    """``Batches`` whose training batches are mixed; test and validation images are left alone."""

    def __init__(
        self,
        inner: Batches,
        mixing: Mixing,
        seed: int,
        smoothing: float,
        share: Shard = WHOLE,
    ) -> None:
        self._inner, self._mixing, self._seed, self._smoothing = inner, mixing, seed, smoothing
        self._share = share

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self._inner.num_classes

    @property
    def num_train(self) -> int:
        """Number of training images, held-out ones included."""
        return self._inner.num_train

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        return self._inner.steps_per_epoch

    @property
    def labels(self) -> Tensor:
        """All training labels."""
        return self._inner.labels

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self._inner.image_shape

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the epoch's mixed batches from step ``start`` on."""
        for step, batch in enumerate(self._inner.epoch(epoch, start), start):
            if batch.whole is None:
                yield self._mixed(batch, epoch, step)
                continue
            replicas = self._share.replicas
            mixed = [
                self._mixed(part, epoch, step * replicas + replica)
                for replica, part in zip(self._share.own, cut(batch, self._share), strict=True)
            ]
            yield joined(mixed)._replace(whole=batch.whole)

    def _mixed(self, batch: Batch, epoch: int, step: int) -> Batch:
        """Mix what is mixed together; ``step`` numbers it within the epoch."""
        height, width = batch.images.shape[2:]
        mix = draw_mix(self._mixing, self._seed, epoch, step, height, width)
        other = partners(self._mixing, len(batch.labels), self._seed, epoch, step)
        other = other.to(batch.labels.device)
        targets = mixed_targets(batch.labels, other, mix.share, self.num_classes, self._smoothing)
        larger = batch.labels if mix.share >= 0.5 else batch.labels[other]
        images = mixed_images(batch.images, other, mix)
        return Batch(images, larger, batch.indices, targets)

    def companion(self, which: Companion, epoch: int, step: int) -> Batch:
        """Refuse: which images they would be mixed with is nobody's convention."""
        raise UserError(
            "recipe.mix mixes the images of a batch, and further images of a step are not mixed;"
            " set recipe.mix to null"
        )

    def test(self, batch_size: int, share: Shard = WHOLE) -> Iterator[Batch]:
        """Yield the test set."""
        return self._inner.test(batch_size, share)

    def validation(self, batch_size: int, share: Shard = WHOLE) -> Iterator[Batch]:
        """Yield the held-out images."""
        return self._inner.validation(batch_size, share)
