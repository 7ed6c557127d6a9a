"""Random erasing: a box of Gaussian noise in a normalised image.

timm's ``RandomErasing(probability, mode="pixel")`` (after Zhong et al. 2017): one box of 2 % to a
third of the area, ratio 0.3 to 1/0.3 (uniform in its logarithm), up to ten tries until it is
smaller than the image in both directions; every value in it N(0, 1). Box and noise are functions
of (seed, epoch, sample).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmark.data.compiled import exact
from benchmark.data.order import Indices
from benchmark.data.rng import draws, stream_key, uniform

AREA = (0.02, 1 / 3)
RATIO = (math.log(0.3), math.log(1 / 0.3))
_TRIES = 10
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB

Boxes = npt.NDArray[np.int64]  # [B, 4]: top, left, height, width; height 0 if nothing is erased


def random_boxes(
    seed: int, epoch: int, samples: Indices, height: int, width: int, probability: float
) -> Boxes:
    """Return a box for every sample of images ``height`` by ``width``."""

    def draw(number: int) -> npt.NDArray[np.float64]:
        return uniform(draws(stream_key(seed, epoch, "erasing", number), samples))

    boxes = np.zeros((len(samples), 4), np.int64)
    waiting = draw(0) <= probability
    rows, columns = draw(1), draw(2)
    for attempt in range(_TRIES):
        h, w = box_size(height, width, draw(3 + 2 * attempt), draw(4 + 2 * attempt))
        fits = waiting & (h < height) & (w < width)
        top = (rows * (height - h + 1)).astype(np.int64)
        left = (columns * (width - w + 1)).astype(np.int64)
        boxes[fits] = np.stack([top, left, h, w], axis=1)[fits]
        waiting &= ~fits
        if not waiting.any():
            break
    return boxes


def box_size(
    height: int, width: int, area: npt.NDArray[np.float64], ratio: npt.NDArray[np.float64]
) -> tuple[Boxes, Boxes]:
    """Return heights and widths from uniform numbers for the area and for the ratio."""
    target = (AREA[0] + (AREA[1] - AREA[0]) * area) * (height * width)
    aspect = np.exp(RATIO[0] + (RATIO[1] - RATIO[0]) * ratio)
    h = np.rint(np.sqrt(target * aspect)).astype(np.int64)
    w = np.rint(np.sqrt(target / aspect)).astype(np.int64)
    return h, w


def erase(images: Tensor, boxes: Boxes, seed: int, epoch: int, samples: Indices) -> Tensor:
    """Fill the boxes of normalised images [B, 3, H, W] with noise, in place, and return them."""
    keys = draws(stream_key(seed, epoch, "erasing_noise"), samples)
    for number in np.flatnonzero(boxes[:, 2]).tolist():
        top, left, height, width = boxes[number].tolist()
        noise = gaussian_noise(keys[number], 3 * height * width).reshape(3, height, width)
        box = images[number, :, top : top + height, left : left + width]
        if box.device.type == "cpu" and box.dtype == torch.float32:
            box.numpy()[:] = noise  # torch would wait for its threads, which readers keep busy
        else:
            box.copy_(torch.from_numpy(noise))
    return images


@exact
def gaussian_noise(key: np.uint64, count: int) -> npt.NDArray[np.float32]:
    """Return standard normal numbers [count], a function of ``key`` (see rng.py): two a draw."""
    found = np.empty(count + 1, np.float32)
    for pair in range((count + 1) // 2):
        bits = key + np.uint64(pair + 1) * np.uint64(_GOLDEN)
        bits = (bits ^ bits >> np.uint64(30)) * np.uint64(_FIRST)
        bits = (bits ^ bits >> np.uint64(27)) * np.uint64(_SECOND)
        bits = bits ^ bits >> np.uint64(31)
        first = (np.float64(bits >> np.uint64(32)) + 0.5) * 2.0**-32
        second = np.float64(bits & np.uint64(0xFFFFFFFF)) * 2.0**-32
        radius, angle = math.sqrt(-2 * math.log(first)), 2 * math.pi * second
        found[2 * pair] = radius * math.cos(angle)
        found[2 * pair + 1] = radius * math.sin(angle)
    return found[:count]
