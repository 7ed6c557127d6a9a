"""Feature maps of two networks side by side: which belong together, and at what size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.methods.base import Probe

Item = TypeVar("Item")


def stage_pairs(student: Sequence[Item], teacher: Sequence[Item]) -> list[tuple[Item, Item]]:
    """Pair the stages of two networks from the first on.

    If their numbers differ the deepest ones have no partner, as in the reference codes; every
    pair of the published tables has equal numbers.
    """
    return list(zip(student, teacher, strict=False))


def deepest_pairs(student: Sequence[Item], teacher: Sequence[Item]) -> list[tuple[Item, Item]]:
    """Pair the stages of two networks from the deepest on, in order of depth.

    If their numbers differ the shallow ones have no partner.
    """
    count = min(len(student), len(teacher))
    return list(zip(student[-count:], teacher[-count:], strict=True))


def pool_to_smaller(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool the larger of two maps [B, C, H, W] to the size of the smaller.

    Channels may differ. The larger one is judged by height, as in the reference codes.
    """
    if student.shape[2] > teacher.shape[2]:
        student = F.adaptive_avg_pool2d(student, (teacher.shape[2], teacher.shape[3]))
    elif student.shape[2] < teacher.shape[2]:
        teacher = F.adaptive_avg_pool2d(teacher, (student.shape[2], student.shape[3]))
    return student, teacher


def need_maps(method: str, *probes: Probe) -> None:
    """Raise UserError if a network has no convolutional feature maps (token sequences)."""
    for probe in probes:
        for stage in probe.features.stages:
            if stage.dim() != 4:
                raise UserError(
                    f"{method} needs feature maps [B, C, H, W], but a stage of {probe.name} has "
                    f"shape {tuple(stage.shape)}; choose a method on logits or pooled features"
                )
