"""Augmentation of whole batches as tensor operations, on any device.

What a sample gets is a function of (seed, epoch, index); the pixels are whole bytes until
:class:`Normalise`, so the result is the same on every device and in both readers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.data.augmentations import AugmentationInfo
from benchmark.data.datasets import DatasetInfo
from benchmark.data.rng import below_tensor, draws_tensor, stream_key


class CropFlip(NamedTuple):
    """Where each image of a batch is cut from its padded self, all [B]: top, left, flip (0, 1)."""

    top: Tensor
    left: Tensor
    flip: Tensor


def crop_flip(
    info: AugmentationInfo,
    seed: int,
    epoch: int,
    indices: Tensor,
    draw: int = 0,
    purpose: str = "crop_flip",
) -> CropFlip:
    """Return the crops and flips of the samples ``indices`` [B] in one epoch, on their device.

    Further views of the same samples have other values of ``draw``.
    """
    bits = draws_tensor(stream_key(seed, epoch, purpose, draw), indices)
    side = 2 * info.padding + 1
    return CropFlip(
        top=below_tensor(bits, side, 0),
        left=below_tensor(bits, side, 16),
        flip=bits >> 32 & int(info.flip),
    )


def variants(info: AugmentationInfo, crops: CropFlip) -> Tensor:
    """Return the number of each crop and flip, [B] int64 below ``info.num_variants``."""
    place = crops.top * (2 * info.padding + 1) + crops.left
    return place * 2 + crops.flip if info.flip else place


def crops_of(info: AugmentationInfo, numbers: Tensor) -> CropFlip:
    """Return the crops and flips that have these numbers [B], as :func:`variants` gives them."""
    place = numbers // 2 if info.flip else numbers
    side = 2 * info.padding + 1
    flip = numbers % 2 if info.flip else torch.zeros_like(numbers)
    return CropFlip(place // side, place % side, flip)


def pad(images: Tensor, padding: int) -> Tensor:
    """Return images [N, H, W, C] with ``padding`` black pixels on every side."""
    return torch.nn.functional.pad(images, (0, 0, padding, padding, padding, padding))


def windows(padded: Tensor, height: int, width: int) -> Tensor:
    """Return every crop of padded images [N, H', W', C] as a view [N, tops, lefts, h, w, C].

    Indexed by (sample, top, left), it copies each crop once, straight from the whole dataset.
    """
    return padded.unfold(1, height, 1).unfold(2, width, 1).permute(0, 1, 2, 4, 5, 3)


def flipped(images: Tensor, flip: Tensor) -> Tensor:
    """Return images [B, H, W, C], mirrored where ``flip`` [B] is 1."""
    return torch.where(flip.bool()[:, None, None, None], images.flip(2), images)


def normalised_by(info: DatasetInfo, augmentation: AugmentationInfo) -> DatasetInfo:
    """Return the dataset with the mean and std of an augmentation that has its own."""
    if augmentation.mean is None or augmentation.std is None:
        return info
    return replace(info, mean=augmentation.mean, std=augmentation.std)


class Normalise:
    """uint8 [B, H, W, C] to float32 [B, C, H, W]: (pixel / 255 - mean) / std, a channel.

    Written as pixel * scale + shift, which differs from the three steps by rounding (1e-6 at
    most); ``channels_last`` chooses the memory format alone, the numbers are the same bits.
    """

    def __init__(
        self, info: DatasetInfo, width: int, device: torch.device, channels_last: bool
    ) -> None:
        mean = torch.tensor(info.mean, dtype=torch.float64)
        std = torch.tensor(info.std, dtype=torch.float64)
        scale = (1 / (255 * std)).float().to(device)
        shift = (-mean / std).float().to(device)
        self._channels_last = channels_last
        if channels_last:
            # A row of pixels at a time: long inner loops, where three channels would be short.
            self._scale, self._shift = scale.repeat(width), shift.repeat(width)
        else:
            self._scale, self._shift = scale[:, None, None], shift[:, None, None]

    def __call__(self, images: Tensor) -> Tensor:
        """Return the normalised batch in new memory."""
        if not self._channels_last:
            planes = images.permute(0, 3, 1, 2)
            values = planes.to(torch.float32, memory_format=torch.contiguous_format)
            return values.mul_(self._scale).add_(self._shift)
        num_images, height, width, channels = images.shape
        rows = images.to(torch.float32).reshape(num_images, height, width * channels)
        rows.mul_(self._scale).add_(self._shift)
        return rows.view(images.shape).permute(0, 3, 1, 2)
