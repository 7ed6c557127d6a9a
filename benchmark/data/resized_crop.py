"""Which part of a photograph becomes a training or test image, as torchvision chooses it.

Every sample gets one row of :data:`COLUMNS` integers: the box (top, left, height, width) that is
cut out; the size it is resized to; the window's corner in the resized box; and whether the window
is mirrored.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from benchmark.data.order import Indices
from benchmark.data.rng import draws, stream_key, uniform

COLUMNS = 9
RESIZE_OF_224 = 256 / 224  # tests resize the short side to 256, then cut 224
AREA = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
_TRIES = 10

Rows = npt.NDArray[np.int64]  # [B, COLUMNS]


def random_rows(
    seed: int, epoch: int, indices: Indices, heights: Indices, widths: Indices, size: int
) -> Rows:
    """Return random resized crops (Szegedy et al., 2015; torchvision's RandomResizedCrop).

    A box of 8 % to 100 % of the area and a ratio between 3:4 and 4:3 (uniform in its logarithm),
    redrawn up to ten times until it fits, else the largest centred box of an allowed ratio; flips
    with probability 1/2. ``heights`` and ``widths`` [B] are those of the samples ``indices``.
    """

    def draw(number: int) -> npt.NDArray[np.float64]:
        return uniform(draws(stream_key(seed, epoch, "resized_crop", number), indices))

    height, width = _largest(heights, widths)
    top, left = (heights - height) // 2, (widths - width) // 2
    waiting = np.ones(len(indices), bool)
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    rows, columns = draw(0), draw(1)
    for attempt in range(_TRIES):
        area = heights * widths * (AREA[0] + draw(3 + 2 * attempt) * (AREA[1] - AREA[0]))
        ratio = np.exp(low + draw(4 + 2 * attempt) * (high - low))
        w = np.rint(np.sqrt(area * ratio)).astype(np.int64)
        h = np.rint(np.sqrt(area / ratio)).astype(np.int64)
        fits = waiting & (w > 0) & (w <= widths) & (h > 0) & (h <= heights)
        height[fits], width[fits] = h[fits], w[fits]
        top[fits] = (rows * (heights - h + 1)).astype(np.int64)[fits]
        left[fits] = (columns * (widths - w + 1)).astype(np.int64)[fits]
        waiting &= ~fits
        if not waiting.any():
            break
    flip = (draw(2) < 0.5).astype(np.int64)
    sizes, zeros = np.full_like(top, size), np.zeros_like(top)
    return np.stack([top, left, height, width, sizes, sizes, zeros, zeros, flip], axis=1)


def _largest(heights: Indices, widths: Indices) -> tuple[Indices, Indices]:
    """Return the largest boxes within the allowed ratios."""
    ratio = widths / heights
    wide, tall = ratio > RATIO[1], ratio < RATIO[0]
    height = np.where(tall, np.rint(widths / RATIO[0]).astype(np.int64), heights)
    width = np.where(wide, np.rint(heights * RATIO[1]).astype(np.int64), widths)
    return height, width


def centre_rows(heights: Indices, widths: Indices, size: int) -> Rows:
    """Return test crops: the short side resized to ``size`` * 256 / 224, then the centre cut.

    As torchvision's Resize and CenterCrop: the long side is truncated, the corner rounded.
    """
    short = round(size * RESIZE_OF_224)
    upright = heights >= widths
    new_heights = np.where(upright, short * heights // widths, short)
    new_widths = np.where(upright, short, short * widths // heights)
    top = np.rint((new_heights - size) / 2).astype(np.int64)
    left = np.rint((new_widths - size) / 2).astype(np.int64)
    zeros = np.zeros_like(heights)
    columns = [zeros, zeros, heights, widths, new_heights, new_widths, top, left, zeros]
    return np.stack(columns, axis=1)
