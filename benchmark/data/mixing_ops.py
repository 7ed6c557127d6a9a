"""Mixup of a batch on the CPU, compiled: one pass over memory where torch takes four.

Values are rounded as torch rounds them: both products, then their sum, in float32. One thread, as
torch's own would wait here for those with which a reader decodes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmark.data.compiled import exact

Floats = npt.NDArray[np.float32]


def in_lines(images: Tensor) -> bool:
    """Whether :func:`blended` takes these images: some, float32, on the CPU, each in one piece."""
    dense = images.is_contiguous() or images.is_contiguous(memory_format=torch.channels_last)
    plain = images.device.type == "cpu" and images.dtype == torch.float32
    return plain and dense and images.numel() > 0 and not images.requires_grad


def blended(images: Tensor, other: Tensor, share: float) -> Tensor:
    """Return ``images`` [B, C, H, W] times ``share`` plus the rest of their partners.

    ``other`` [B]: the partner of each. In new memory, of the format that the images have.
    """
    found = torch.empty_like(images)
    _blend(_lines(images), other.numpy(), np.float32(share), np.float32(1 - share), _lines(found))
    return found


def _lines(images: Tensor) -> Floats:
    """Return the images' values as they lie in memory, [B, C * H * W]."""
    dense = images if images.is_contiguous() else images.permute(0, 2, 3, 1)
    lines: Floats = dense.view(len(images), -1).numpy()
    return lines


@exact
def _blend(
    lines: Floats, other: npt.NDArray[np.int64], own: np.float32, rest: np.float32, found: Floats
) -> None:
    for i in range(lines.shape[0]):
        line, partner, to = lines[i], lines[other[i]], found[i]
        for k in range(lines.shape[1]):
            to[k] = line[k] * own + partner[k] * rest
