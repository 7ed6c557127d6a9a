"""Pillow's bilinear and bicubic resize, compiled: published numbers rest on its exact rounding.

FFCV resizes with OpenCV's INTER_AREA, which differs from Pillow by 3.2 grey levels on average at
test sizes; this gives Pillow's bytes. The filter (a triangle, or the cubic of a = -0.5) is widened
by the reduction (so it averages when it shrinks), its weights are rounded to 22 bits, rows are
filtered before columns and rounded to bytes in between (Pillow, src/libImaging/Resample.c).
Filter ``linear`` is a triangle that is never widened, as TensorFlow resizes; it rounds to bytes
where TensorFlow keeps fractions.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from benchmark.data.compiled import exact

_BITS = 22
_HALF = 1 << (_BITS - 1)
FILTERS = ("bilinear", "bicubic", "linear")


@exact
def _filtered(distance: float, kind: int) -> float:
    x = abs(distance)
    if kind != 1:
        return 1.0 - x if x < 1.0 else 0.0
    if x < 1.0:
        return ((-0.5 + 2.0) * x - (-0.5 + 3.0)) * x * x + 1
    if x < 2.0:
        return (((x - 5) * x + 8) * x - 4) * -0.5
    return 0.0


@exact
def _weights(
    old: int, new: int, first: int, count: int, kind: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return, for outputs first to first + count: where inputs start, how many, their weights."""
    scale = old / new
    widened = 1.0 if kind == 2 else max(scale, 1.0)
    support = widened * (2.0 if kind == 1 else 1.0)
    starts = np.empty(count, np.int64)
    lengths = np.empty(count, np.int64)
    weights = np.zeros((count, math.ceil(support) * 2 + 1), np.int64)
    values = np.empty(weights.shape[1], np.float64)
    for number in range(count):
        centre = (number + first + 0.5) * scale
        start = max(int(centre - support + 0.5), 0)
        length = min(int(centre + support + 0.5), old) - start
        total = 0.0
        for tap in range(length):
            values[tap] = _filtered((tap + start - centre + 0.5) * (1.0 / widened), kind)
            total += values[tap]
        for tap in range(length):
            weight = values[tap] / total * (1 << _BITS)
            weights[number, tap] = int(0.5 + weight) if weight >= 0 else int(-0.5 + weight)
        starts[number], lengths[number] = start, length
    return starts, lengths, weights


@exact
def resample(
    source: npt.NDArray[np.uint8], row: npt.NDArray[np.int64], target: npt.NDArray[np.uint8]
) -> None:
    """Fill ``target`` [h, w, 3] from ``source`` [H, W, 3] as one row of resized_crop.py says."""
    top, left, height, width, new_height, new_width, corner_y, corner_x, flip, kind = row[:10]
    out_height, out_width, _ = target.shape
    y_starts, y_lengths, y_weights = _weights(height, new_height, corner_y, out_height, kind)
    x_starts, x_lengths, x_weights = _weights(width, new_width, corner_x, out_width, kind)
    first = y_starts[0]
    last = y_starts[out_height - 1] + y_lengths[out_height - 1]
    narrow = np.empty((last - first, out_width * 3), np.uint8)
    for y in range(last - first):
        line = source[top + first + y]
        for x in range(out_width):
            red, green, blue = _HALF, _HALF, _HALF
            begin = left + x_starts[x]
            for tap in range(x_lengths[x]):
                weight = x_weights[x, tap]
                red += line[begin + tap, 0] * weight
                green += line[begin + tap, 1] * weight
                blue += line[begin + tap, 2] * weight
            narrow[y, x * 3] = min(max(red >> _BITS, 0), 255)
            narrow[y, x * 3 + 1] = min(max(green >> _BITS, 0), 255)
            narrow[y, x * 3 + 2] = min(max(blue >> _BITS, 0), 255)
    # 255 << 22 is below 2 ** 31, and a cubic's overshoot as well; sums of a whole row in 32 bits
    # are vector instructions.
    sums = np.empty(out_width * 3, np.int32)
    for y in range(out_height):
        sums[:] = _HALF
        for tap in range(y_lengths[y]):
            weight = np.int32(y_weights[y, tap])
            line = narrow[y_starts[y] - first + tap]
            for k in range(out_width * 3):
                sums[k] += np.int32(line[k]) * weight
        line_out = target[y].reshape(out_width * 3)
        for k in range(out_width * 3):
            value = min(max(sums[k] >> np.int32(_BITS), np.int32(0)), np.int32(255))
            line_out[k] = np.uint8(value)
        if flip:
            for x in range(out_width // 2):
                for channel in range(3):
                    here, there = 3 * x + channel, 3 * (out_width - 1 - x) + channel
                    line_out[here], line_out[there] = line_out[there], line_out[here]
