"""Which part of a photograph becomes a training or test image, as torchvision chooses it.

Every sample gets one row of :data:`COLUMNS` integers: the box (top, left, height, width) that is
cut out; the size it is resized to; the window's corner in the resized box; whether the window
is mirrored; and the filter (its place in resample.FILTERS).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from benchmark.data.order import Indices
from benchmark.data.rng import draws, stream_key, uniform

COLUMNS = 10
RESIZE_OF_224 = 256 / 224  # tests resize the short side to 256, then cut 224
AREA = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
FILTER_NUMBERS = {"bilinear": 0, "bicubic": 1, "linear": 2}
_TRIES = 10

Rows = npt.NDArray[np.int64]  # [B, COLUMNS]


def random_rows(
    seed: int,
    epoch: int,
    indices: Indices,
    heights: Indices,
    widths: Indices,
    size: int,
    area: tuple[float, float] = AREA,
    ratio: tuple[float, float] = RATIO,
    kind: int = 0,
) -> Rows:
    """Return random resized crops (Szegedy et al., 2015; torchvision's RandomResizedCrop).

    A box of 8 % to 100 % of the area and a ratio between 3:4 and 4:3 (uniform in its logarithm;
    or of the given ``area`` and ``ratio``), redrawn up to ten times until it fits, else the
    largest centred box of an allowed ratio; flips with probability 1/2. ``heights`` and
    ``widths`` [B] are those of the samples ``indices``.
    """

    def draw(number: int) -> npt.NDArray[np.float64]:
        return uniform(draws(stream_key(seed, epoch, "resized_crop", number), indices))

    height, width = _largest(heights, widths, ratio)
    top, left = (heights - height) // 2, (widths - width) // 2
    waiting = np.ones(len(indices), bool)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    rows, columns = draw(0), draw(1)
    for attempt in range(_TRIES):
        target = heights * widths * (area[0] + draw(3 + 2 * attempt) * (area[1] - area[0]))
        aspect = np.exp(low + draw(4 + 2 * attempt) * (high - low))
        w = np.rint(np.sqrt(target * aspect)).astype(np.int64)
        h = np.rint(np.sqrt(target / aspect)).astype(np.int64)
        fits = waiting & (w > 0) & (w <= widths) & (h > 0) & (h <= heights)
        height[fits], width[fits] = h[fits], w[fits]
        top[fits] = (rows * (heights - h + 1)).astype(np.int64)[fits]
        left[fits] = (columns * (widths - w + 1)).astype(np.int64)[fits]
        waiting &= ~fits
        if not waiting.any():
            break
    flip = (draw(2) < 0.5).astype(np.int64)
    sizes, zeros = np.full_like(top, size), np.zeros_like(top)
    kinds = np.full_like(top, kind)
    parts: list[Indices] = [top, left, height, width, sizes, sizes, zeros, zeros, flip, kinds]
    return np.stack(parts, axis=1)


def _largest(
    heights: Indices, widths: Indices, ratio: tuple[float, float]
) -> tuple[Indices, Indices]:
    """Return the largest boxes within the allowed ratios."""
    own = widths / heights
    wide, tall = own > ratio[1], own < ratio[0]
    height = np.where(tall, np.rint(widths / ratio[0]).astype(np.int64), heights)
    width = np.where(wide, np.rint(heights * ratio[1]).astype(np.int64), widths)
    return height, width


def centre_rows(
    heights: Indices, widths: Indices, size: int, kind: int = 0, short: int | None = None
) -> Rows:
    """Return test crops: the short side resized to ``short``, then the centre cut.

    ``short`` is ``size`` * 256 / 224 unless it is given.

    As torchvision's Resize and CenterCrop: the long side is truncated, the corner rounded.
    """
    short = round(size * RESIZE_OF_224) if short is None else short
    upright = heights >= widths
    new_heights = np.where(upright, short * heights // widths, short)
    new_widths = np.where(upright, short, short * widths // heights)
    top = np.rint((new_heights - size) / 2).astype(np.int64)
    left = np.rint((new_widths - size) / 2).astype(np.int64)
    zeros = np.zeros_like(heights)
    kinds = np.full_like(heights, kind)
    columns: list[Indices] = [
        zeros,
        zeros,
        heights,
        widths,
        new_heights,
        new_widths,
        top,
        left,
        zeros,
        kinds,
    ]
    return np.stack(columns, axis=1)
