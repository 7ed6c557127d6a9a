"""Limits on the size of a batch that a method's adapters set."""

from __future__ import annotations

from torch import Tensor

from benchmark.base.errors import UserError


def need_two(method: str, values: Tensor) -> None:
    """Raise UserError for a batch [B, ...] of one image, where batch statistics do not exist."""
    if values.shape[0] < 2:
        raise UserError(
            f"{method} normalises over the batch, which one image does not allow; "
            "drop incomplete batches or choose a batch size that leaves no batch of one"
        )
