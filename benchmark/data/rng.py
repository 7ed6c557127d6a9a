"""Randomness as a function: the same 64 bits for the same (seed, epoch, purpose, index).

SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014) used
as a counter: :func:`stream_key` is the state that a stream starts from, and the draw of index i
is the (i + 1)-th output after it. Nothing is consumed, so workers, batch positions, readers,
packs and resumes cannot change what a sample gets. NumPy and torch give the same bits; all
operations are on integers, so every platform does too.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB


def _mix(value: int) -> int:
    value ^= value >> 30
    value = value * _FIRST & _MASK
    value ^= value >> 27
    value = value * _SECOND & _MASK
    return value ^ value >> 31


def stream_key(seed: int, epoch: int, purpose: str, draw: int = 0) -> int:
    """Return the 64-bit key of one stream of draws.

    ``purpose`` keeps streams apart ("order", "crop_flip"); ``draw`` numbers several values that
    one sample needs for one purpose. Seed and epoch may be negative.
    """
    key = int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=8).digest(), "little")
    for part in (seed, epoch, draw):
        key = _mix((key + _GOLDEN & _MASK) ^ _mix(part + _GOLDEN & _MASK))
    return key


def draws(key: int, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Return 64 random bits for each index, in the shape of ``indices``."""
    value = (indices.astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN) + np.uint64(key)
    value ^= value >> np.uint64(30)
    value *= np.uint64(_FIRST)
    value ^= value >> np.uint64(27)
    value *= np.uint64(_SECOND)
    value ^= value >> np.uint64(31)
    return value


def below(
    bits: npt.NDArray[np.uint64], bound: int, shift: int
) -> npt.NDArray[np.int64]:  # same shape
    """Return integers in [0, bound) from the 16 bits that start at ``shift``.

    Multiply and shift instead of a remainder; the bias is below bound / 65536.
    """
    field = bits >> np.uint64(shift) & np.uint64(0xFFFF)
    return (field * np.uint64(bound) >> np.uint64(16)).astype(np.int64)


def uniform(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """Return doubles in [0, 1) from the upper 53 bits."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


# -- the same on torch tensors, on any device ----------------------------------------------------


def _signed(value: int) -> int:
    """Return the int64 that has the bits of ``value``."""
    return value - (1 << 64) if value >> 63 else value


def draws_tensor(key: int, indices: Tensor) -> Tensor:
    """Return the bits of :func:`draws` as int64, for int64 ``indices`` on their device."""
    value = (indices + 1) * _signed(_GOLDEN) + _signed(key)
    # torch has no unsigned shift: the sign bits that >> brings in are masked away.
    value = value ^ (value >> 30 & (1 << 34) - 1)
    value = value * _signed(_FIRST)
    value = value ^ (value >> 27 & (1 << 37) - 1)
    value = value * _signed(_SECOND)
    return value ^ (value >> 31 & (1 << 33) - 1)


def below_tensor(bits: Tensor, bound: int, shift: int) -> Tensor:
    """Return what :func:`below` returns, for the bits of :func:`draws_tensor`."""
    return (bits >> shift & 0xFFFF) * bound >> 16
