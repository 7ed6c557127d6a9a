"""The operations of timm's RandAugment on one image, compiled: Pillow's bytes without Pillow.

Each function changes pixels [H, W, 3] uint8 in place, to the byte as Pillow's own operations do
(libImaging/Geometry.c, Blend.c, Filter.c, ImageOps, ImageEnhance; tests hold them side by side).
Pillow has to make an image of the array, and one more for every step of an operation; nothing
leaves compiled code here.

timm 1.0.31 passes posterising to 0 bits on to Pillow, which it does whenever the magnitude is
clipped to 10 (of about every 600th image). Pillow 13 raises a ValueError there; up to Pillow 12
the image became black, as in the published runs, and so it does here.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from benchmark.data.compiled import exact

Pixels = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.float64]

# In timm's order; rows of random parameters name operations by their place here.
NAMES = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "PosterizeIncreasing",
    "SolarizeIncreasing",
    "SolarizeAdd",
    "ColorIncreasing",
    "ContrastIncreasing",
    "BrightnessIncreasing",
    "SharpnessIncreasing",
    "ShearX",
    "ShearY",
    "TranslateXRel",
    "TranslateYRel",
)
NUMBERS = 6  # an operation's arguments: one number, or the six of an affine map
FILL = (124, 116, 104)  # the mean of ImageNet in bytes, where an affine map looks outside


@exact
def _look_up(pixels: Pixels, table: npt.NDArray[np.uint8]) -> None:
    """Replace bytes by ``table`` [3, 256]."""
    for y in range(pixels.shape[0]):
        for x in range(pixels.shape[1]):
            for channel in range(3):
                pixels[y, x, channel] = table[channel, pixels[y, x, channel]]


@exact
def _histogram(pixels: Pixels) -> npt.NDArray[np.int64]:
    counts = np.zeros((3, 256), np.int64)
    for y in range(pixels.shape[0]):
        for x in range(pixels.shape[1]):
            for channel in range(3):
                counts[channel, pixels[y, x, channel]] += 1
    return counts


@exact
def _auto_contrast(pixels: Pixels) -> None:
    """Stretch each channel from its darkest and brightest value to 0 and 255."""
    counts = _histogram(pixels)
    table = np.empty((3, 256), np.uint8)
    for channel in range(3):
        low, high = 0, 255
        while low < 255 and counts[channel, low] == 0:
            low += 1
        while high > 0 and counts[channel, high] == 0:
            high -= 1
        for value in range(256):
            if high <= low:
                table[channel, value] = value
                continue
            scale = 255.0 / (high - low)
            table[channel, value] = min(max(int(value * scale + -low * scale), 0), 255)
    _look_up(pixels, table)


@exact
def _equalize(pixels: Pixels) -> None:
    """Give each channel a flat histogram."""
    counts = _histogram(pixels)
    table = np.empty((3, 256), np.uint8)
    for channel in range(3):
        last, used = 0, 0
        for value in range(256):
            if counts[channel, value]:
                last, used = counts[channel, value], used + 1
        step = (pixels.shape[0] * pixels.shape[1] - last) // 255
        total = step // 2
        for value in range(256):
            if used <= 1 or step == 0:
                table[channel, value] = value
                continue
            table[channel, value] = min(total // step, 255)
            total += counts[channel, value]
    _look_up(pixels, table)


@exact
def _point(pixels: Pixels, kind: int, argument: int) -> None:
    """Invert (2), posterise (4), solarise (5), add below 128 (6)."""
    table = np.empty((3, 256), np.uint8)
    mask = ~((1 << (8 - argument)) - 1) & 255 if kind == 4 else 0
    for value in range(256):
        new = value
        if kind == 2:
            new = 255 - value
        elif kind == 4:
            new = value & mask
        elif kind == 5:
            new = value if value < argument else 255 - value
        elif value < 128:
            new = min(255, value + argument)
        table[:, value] = new
    _look_up(pixels, table)


@exact
def _blended(plain: int, value: int, factor: np.float32) -> int:
    """Pillow's blend of two bytes, in single precision; beyond 0 to 1 it extrapolates."""
    mixed = np.float32(plain) + factor * np.float32(value - plain)
    if mixed <= np.float32(0.0):
        return 0
    if mixed >= np.float32(255.0):
        return 255
    return int(mixed)


@exact
def _grey(pixels: Pixels, y: int, x: int) -> int:
    red, green, blue = int(pixels[y, x, 0]), int(pixels[y, x, 1]), int(pixels[y, x, 2])
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


@exact
def _enhance(pixels: Pixels, kind: int, factor: np.float32) -> None:
    """Colour (7), contrast (8), brightness (9): away from grey, the mean grey, black."""
    height, width, _ = pixels.shape
    plain = 0
    if kind == 8:
        total = 0
        for y in range(height):
            for x in range(width):
                total += _grey(pixels, y, x)
        plain = int(total / (height * width) + 0.5)
    for y in range(height):
        for x in range(width):
            if kind == 7:
                plain = _grey(pixels, y, x)
            for channel in range(3):
                pixels[y, x, channel] = _blended(plain, int(pixels[y, x, channel]), factor)


@exact
def _sharpen(pixels: Pixels, factor: np.float32) -> None:
    """Away from the image smoothed by (1 1 1, 1 5 1, 1 1 1) / 13; the border stays."""
    height, width, _ = pixels.shape
    old = pixels.copy().reshape(height, width * 3)
    side = np.float32(np.float32(1.0) / np.float32(13.0))
    centre = np.float32(np.float32(5.0) / np.float32(13.0))
    line = np.empty(width * 3, np.uint8)
    for y in range(1, height - 1):
        above, own, below = old[y - 1], old[y], old[y + 1]
        # The row below first, as Pillow adds them up; neighbours are three bytes away.
        for k in range(3, width * 3 - 3):
            total = np.float32(0.5) + (
                np.float32(below[k - 3]) * side
                + np.float32(below[k]) * side
                + np.float32(below[k + 3]) * side
            )
            total += (
                np.float32(own[k - 3]) * side
                + np.float32(own[k]) * centre
                + np.float32(own[k + 3]) * side
            )
            total += (
                np.float32(above[k - 3]) * side
                + np.float32(above[k]) * side
                + np.float32(above[k + 3]) * side
            )
            line[k] = _blended(int(total), int(own[k]), factor)
        pixels[y, 1 : width - 1] = line[3 : width * 3 - 3].reshape(width - 2, 3)


@exact
def _cubic(a: float, b: float, c: float, d: float, share: float) -> float:
    first = -a + c
    second = 2 * (a - b) + c - d
    third = -a + b - c + d
    return b + share * (first + share * (second + share * third))


@exact
def _across(wide: Numbers, at: int, share: float) -> float:
    return _cubic(wide[at], wide[at + 3], wide[at + 6], wide[at + 9], share)


@exact
def _widened(pixels: Pixels) -> Numbers:
    """Return rows of the image with its edges repeated, by two before and by three after."""
    height, width, _ = pixels.shape
    wide = np.empty((height + 5, (width + 5) * 3))
    for y in range(height + 5):
        line = pixels[min(max(y - 2, 0), height - 1)]
        for x in range(width + 5):
            for c in range(3):
                wide[y, 3 * x + c] = line[min(max(x - 2, 0), width - 1), c]
    return wide


@exact
def _clipped(value: float) -> int:
    if value <= 0.0:
        return 0
    if value >= 255.0:
        return 255
    return int(value)


@exact
def _affine(pixels: Pixels, numbers: Numbers) -> None:
    """Look every pixel up at its image under the map, bicubic; outside is :data:`FILL`.

    A cubic at a share of 0 is its second point to the bit, so that shears and shifts, which move
    along one axis, cost one cubic a value and not five.
    """
    height, width, _ = pixels.shape
    wide = _widened(pixels)
    for y in range(height):
        for x in range(width):
            from_x = numbers[0] * (x + 0.5) + numbers[1] * (y + 0.5) + numbers[2]
            from_y = numbers[3] * (x + 0.5) + numbers[4] * (y + 0.5) + numbers[5]
            if from_x < 0 or from_x >= width or from_y < 0 or from_y >= height:
                for c in range(3):
                    pixels[y, x, c] = FILL[c]
                continue
            from_x -= 0.5
            from_y -= 0.5
            left, top = math.floor(from_x), math.floor(from_y)
            across, down = from_x - left, from_y - top
            above, own, below, last = wide[top + 1], wide[top + 2], wide[top + 3], wide[top + 4]
            at = 3 * (left + 1)  # the first of the four points across
            for c in range(at, at + 3):
                if down == 0.0:
                    value = _across(own, c, across)
                elif across == 0.0:
                    value = _cubic(above[c + 3], own[c + 3], below[c + 3], last[c + 3], down)
                else:
                    value = _cubic(
                        _across(above, c, across),
                        _across(own, c, across),
                        _across(below, c, across),
                        _across(last, c, across),
                        down,
                    )
                pixels[y, x, c - at] = _clipped(value)


@exact
def apply_operation(pixels: Pixels, kind: int, numbers: Numbers) -> None:
    """Apply operation ``kind`` of :data:`NAMES` with its arguments; nothing if it is below 0."""
    if kind < 0:
        return
    if kind == 0:
        _auto_contrast(pixels)
    elif kind == 1:
        _equalize(pixels)
    elif kind in (2, 4, 5, 6):
        _point(pixels, kind, int(numbers[0]))
    elif kind in (7, 8, 9):
        _enhance(pixels, kind, np.float32(numbers[0]))
    elif kind == 10:
        _sharpen(pixels, np.float32(numbers[0]))
    else:
        _affine(pixels, numbers)
