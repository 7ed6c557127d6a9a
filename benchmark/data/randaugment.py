"""timm's RandAugment as rows of numbers: which operations an image gets, and their arguments.

``rand-m9-mstd0.5-inc1`` (timm/data/auto_augment.py): two of fifteen operations, drawn with
replacement, each applied with probability 1/2, its magnitude N(9, 0.5) clipped to 0 to 10, its
sign by chance. What an image gets is a function of (seed, epoch, sample) here; given the same
draws the bytes are timm's.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from benchmark.data.order import Indices
from benchmark.data.randaugment_ops import NAMES, NUMBERS
from benchmark.data.rng import draws, stream_key, uniform

LAYERS = 2
WIDTH = LAYERS * (1 + NUMBERS)  # columns: (operation, its numbers) for each layer
MAGNITUDE, SPREAD, PROBABILITY, MOST = 9.0, 0.5, 0.5, 10.0

Floats = npt.NDArray[np.float64]


def random_operations(seed: int, epoch: int, samples: Indices, size: int) -> Floats:
    """Return rows [B, WIDTH] for images of ``size`` pixels a side; operation -1 is none."""
    rows = np.zeros((len(samples), WIDTH))
    for layer in range(LAYERS):

        def draw(number: int, layer: int = layer) -> Floats:
            key = stream_key(seed, epoch, "randaugment", 6 * layer + number)
            return uniform(draws(key, samples))

        kinds = (draw(0) * len(NAMES)).astype(np.int64)
        skipped, negative = draw(1) > PROBABILITY, draw(2) > 0.5
        magnitudes = np.clip(MAGNITUDE + SPREAD * normal(draw(3), draw(4)), 0.0, MOST)
        start = layer * (1 + NUMBERS)
        rows[:, start] = np.where(skipped, -1, kinds)
        for row, kind, magnitude, sign in zip(rows, kinds, magnitudes, negative, strict=True):
            argument = level_argument(NAMES[kind], float(magnitude), bool(sign))
            row[start + 1 : start + 1 + NUMBERS] = arguments(NAMES[kind], argument, size)
    return rows


def normal(first: Floats, second: Floats) -> Floats:
    """Return standard normal numbers from two uniform ones each (Box and Muller, 1958)."""
    found: Floats = np.sqrt(-2 * np.log1p(-first)) * np.cos(2 * math.pi * second)
    return found


def level_argument(name: str, level: float, negative: bool) -> float:
    """Return what an operation does at a level from 0 to 10 (timm's *_level_to_arg), nan: nothing.

    Degrees, bits, a threshold, an addend, a factor, a shear, a share of the side.
    """
    sign = -1.0 if negative else 1.0
    share = level / 10.0
    if name == "Rotate":
        return sign * (share * 30.0)
    if name == "PosterizeIncreasing":
        return float(4 - int(share * 4))
    if name == "SolarizeIncreasing":
        return float(256 - min(256, int(share * 256)))
    if name == "SolarizeAdd":
        return float(min(128, int(share * 110)))
    if name in ("ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing"):
        return max(0.1, 1.0 + sign * (share * 0.9))
    if name == "SharpnessIncreasing":
        return max(0.1, 1.0 + sign * (share * 0.9))
    if name in ("ShearX", "ShearY"):
        return sign * (share * 0.3)
    if name in ("TranslateXRel", "TranslateYRel"):
        return sign * (share * 0.45)
    return math.nan


def arguments(name: str, argument: float, size: int) -> list[float]:
    """Return the :data:`NUMBERS` numbers that the compiled operation takes."""
    if name == "Rotate":
        return _rotation(argument, size)
    moved = argument * size
    affine = {
        "ShearX": [1.0, argument, 0.0, 0.0, 1.0, 0.0],
        "ShearY": [1.0, 0.0, 0.0, argument, 1.0, 0.0],
        "TranslateXRel": [1.0, 0.0, moved, 0.0, 1.0, 0.0],
        "TranslateYRel": [1.0, 0.0, 0.0, 0.0, 1.0, moved],
    }
    if name in affine:
        return affine[name]
    return [0.0 if math.isnan(argument) else argument] + [0.0] * (NUMBERS - 1)


def _rotation(degrees: float, size: int) -> list[float]:
    """Return Pillow's map for a rotation about the centre, with its rounding to 15 digits."""
    angle = -math.radians(degrees % 360.0)
    cosine, sine = round(math.cos(angle), 15), round(math.sin(angle), 15)
    back = round(-math.sin(angle), 15)
    centre = size / 2
    x = cosine * -centre + sine * -centre + 0.0 + centre
    y = back * -centre + cosine * -centre + 0.0 + centre
    return [cosine, sine, x, back, cosine, y]
