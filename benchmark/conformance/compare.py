"""Equality to the last bit, of anything that a checkpoint may hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def first_difference(ours: Any, theirs: Any, place: str = "") -> str | None:
    """Return where two nested values differ first (``optimizer.state.3``), None if they agree.

    Tensors agree when their types, shapes and bytes do, so that NaN equals NaN.
    """
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        return None if _same_bits(ours, theirs) else place
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        if ours.keys() != theirs.keys():
            odd = sorted(map(str, ours.keys() ^ theirs.keys()))
            return f"{place} (only one has {', '.join(odd)})"
        pairs = [(key, ours[key], theirs[key]) for key in ours]
    elif _is_list(ours) and _is_list(theirs) and len(ours) == len(theirs):
        pairs = [(i, a, b) for i, (a, b) in enumerate(zip(ours, theirs, strict=True))]
    else:
        return None if _same_value(ours, theirs) else place
    for key, a, b in pairs:
        found = first_difference(a, b, f"{place}.{key}" if place else str(key))
        if found is not None:
            return found
    return None


def copied(value: Any) -> Any:
    """Return a copy of nested values that shares no tensor with them."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if _is_list(value):
        return [copied(item) for item in value]
    return value


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _same_bits(ours: Tensor, theirs: Tensor) -> bool:
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return False
    a, b = (t.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for t in (ours, theirs))
    return torch.equal(a, b)


def _same_value(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float) and isinstance(theirs, float):
        return ours == theirs or (math.isnan(ours) and math.isnan(theirs))
    return bool(ours == theirs)
