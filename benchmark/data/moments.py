"""Mean and standard deviation of the pixels of images as they pass by, in whole numbers.

The sums are of integers, so they are the same whatever the order; of compressed images the
decoder's pixels are taken. All pixels of all images count alike.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

from benchmark.base.errors import UserError
from benchmark.data.formats import RAW, Sample

Triple = tuple[float, float, float]


class Moments:
    """Sums of a channel's values and their squares, of the images that passed."""

    def __init__(self) -> None:
        self._pixels = 0
        self._sums = [0, 0, 0]
        self._squares = [0, 0, 0]

    def watch(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """Yield ``samples`` unchanged, taking note of each."""
        for sample in samples:
            pixels = _pixels(sample)
            counts = [np.bincount(pixels[:, channel], minlength=256) for channel in range(3)]
            values = np.arange(256, dtype=np.int64)
            self._pixels += len(pixels)
            for channel, count in enumerate(counts):
                self._sums[channel] += int(count @ values)
                self._squares[channel] += int(count @ values**2)
            yield sample

    def mean_std(self) -> tuple[Triple, Triple]:
        """Return both for pixels in [0, 1], to four digits, as published ones are.

        Raises UserError for a channel that is the same everywhere.
        """
        means = [total / self._pixels for total in self._sums]
        spreads = [
            (square / self._pixels - mean**2) ** 0.5
            for square, mean in zip(self._squares, means, strict=True)
        ]
        mean = tuple(round(value / 255, 4) for value in means)
        std = tuple(round(value / 255, 4) for value in spreads)
        if min(std) <= 0:
            raise UserError(
                "a channel has the same value in all training images: give --mean and --std"
            )
        return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def _pixels(sample: Sample) -> np.ndarray:
    if sample.mode == RAW:
        return np.frombuffer(sample.data, np.uint8).reshape(-1, 3)
    with Image.open(io.BytesIO(sample.data)) as image:
        return np.asarray(image.convert("RGB")).reshape(-1, 3)
