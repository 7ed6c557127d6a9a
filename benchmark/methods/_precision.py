"""Losses in full precision, whatever the network around them runs in."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(item)]
    return []


def _lifted(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16):
        return value.float()
    if isinstance(value, list | tuple):
        return [_lifted(item) for item in value]
    return value


def full_precision(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Run a loss function outside autocast, on half-precision inputs lifted to float32.

    Gram matrices and differences of squares lose most of their digits in bfloat16 and published
    weights reach 30,000; autocast would run their matrix products in bfloat16 again. float32
    and float64 inputs, lists of tensors included, pass unchanged.
    """

    @functools.wraps(loss)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        found = _tensors(args) or _tensors(tuple(kwargs.values()))
        if not found:  # what was dropped says so itself
            return loss(*args, **kwargs)
        with torch.autocast(found[0].device.type, enabled=False):
            values: Any = [_lifted(value) for value in args]
            named: Any = {name: _lifted(value) for name, value in kwargs.items()}
            return loss(*values, **named)

    return wrapped
