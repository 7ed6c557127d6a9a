"""Normalise photographs on the CPU by a table of what every byte becomes, compiled.

One pass over the batch where torch takes three (to floats, times, plus), each through memory that
no cache holds. The table is what :class:`Normalise` says of the 256 bytes, so the bits are its.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmark.data.augment import Normalise
from benchmark.data.compiled import exact
from benchmark.data.datasets import DatasetInfo

Floats = npt.NDArray[np.float32]


class TableNormalise:
    """uint8 [B, H, W, C] to float32 [B, C, H, W] on the CPU, as ``Normalise`` to the bit."""

    def __init__(self, info: DatasetInfo, channels_last: bool) -> None:
        channels = len(info.mean)
        every = torch.arange(256, dtype=torch.uint8)[None, None, :, None].expand(1, 1, -1, channels)
        plain = Normalise(info, 256, torch.device("cpu"), channels_last=False)
        self._table: Floats = plain(every)[0, :, 0].contiguous().numpy()
        self._channels_last = channels_last

    def __call__(self, images: Tensor) -> Tensor:
        """Return the normalised batch in new memory."""
        num_images, height, width, channels = images.shape
        if self._channels_last:
            found = torch.empty(images.shape, dtype=torch.float32).permute(0, 3, 1, 2)
        else:
            found = torch.empty((num_images, channels, height, width), dtype=torch.float32)
        _look_up(images.contiguous().numpy(), self._table, found.numpy())
        return found


@exact
def _look_up(pixels: npt.NDArray[np.uint8], table: Floats, found: Floats) -> None:
    """Fill ``found`` [B, C, H, W], in either memory format, from ``pixels`` [B, H, W, C]."""
    num_images, height, width, channels = pixels.shape
    for i in range(num_images):
        for y in range(height):
            for c in range(channels):
                for x in range(width):
                    found[i, c, y, x] = table[c, pixels[i, y, x, c]]
