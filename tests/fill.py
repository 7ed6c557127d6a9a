"""The exact weight fill and random numbers behind the golden arrays.

Every value is a hash of (position, key number), so that any framework can rebuild the inputs
of a reference number without a file of weights.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import nn


def rnd(k: int, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return hashed numbers in [-1, 1), float64, of ``shape``; ``k`` numbers the array."""
    count = math.prod(shape)
    offset = np.uint32((k * 40503 + 12345) % 2**32)
    h = np.arange(count, dtype=np.uint32) * np.uint32(2654435761) + offset
    h ^= h >> np.uint32(16)
    h *= np.uint32(2246822519)
    h ^= h >> np.uint32(13)
    h *= np.uint32(3266489917)
    h ^= h >> np.uint32(16)
    return (2.0 * (h.astype(np.float64) / 2.0**32) - 1.0).reshape(shape)


def fill_value(k: int, key: str, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return the golden value of the ``k``-th state_dict entry, in float64."""
    r = rnd(k, shape)
    last = key.rpartition(".")[2]
    if last == "num_batches_tracked":
        return np.zeros(shape)
    if last == "running_mean":
        return 0.1 * r
    if last == "running_var":
        return 1.0 + 0.5 * np.abs(r)
    if len(shape) >= 2:
        return r * math.sqrt(6.0 / math.prod(shape[1:]))
    if last == "weight":
        return 0.9 + 0.1 * r
    return 0.1 * r


@torch.no_grad()
def fill_state(module: nn.Module) -> None:
    """Fill every state_dict entry in place; k is the entry's position in state_dict order.

    Values are computed in float64, rounded to float32 (as the reference did, a double model
    included), then cast to the entry's dtype.
    """
    for k, (key, tensor) in enumerate(module.state_dict().items()):
        value = torch.from_numpy(fill_value(k, key, tuple(tensor.shape)))
        tensor.copy_(value.to(torch.float32))
