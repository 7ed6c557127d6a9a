"""What the thesis' methods share: KD from a changed teacher, and walks over sorted classes.

Its methods change the teacher's logits or probabilities, mostly if the teacher is wrong,
and then distil from them as usual ("Vanilla").
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.methods._logits import kl_per_sample

LogBase = Literal["e", "2"]


def vanilla_divergence(
    student: Tensor,
    teacher_probs: Tensor,
    temperature: float | Tensor,
    squared: bool = True,
    log_base: LogBase = "e",
) -> Tensor:
    """Return KL(teacher || student), times temperature squared, averaged over the batch.

    student: logits [B, K]; teacher_probs [B, K]: the changed teacher, already softened;
    temperature: one number or one a sample, [B, 1].
    """
    divergence = kl_per_sample(F.log_softmax(student / temperature, dim=1), teacher_probs)
    if log_base == "2":
        divergence = divergence / math.log(2.0)
    if squared:
        per_sample = temperature.squeeze(1) if isinstance(temperature, Tensor) else temperature
        divergence = divergence * per_sample**2
    return divergence.mean()


def label_values(values: Tensor, labels: Tensor) -> Tensor:
    """Return each sample's value at its label, [B, 1] of [B, K]."""
    return values.gather(1, labels.unsqueeze(1))


def is_right(scores: Tensor, labels: Tensor) -> Tensor:
    """Return [B, 1]: is the label's score the highest? A tie counts as right.

    (Half-precision teachers tie; which of equal scores argmax names differs between devices.)
    """
    return label_values(scores, labels) >= scores.amax(1, keepdim=True)


def walked(
    keys: Tensor,
    steps: Tensor,
    skipped: Tensor,
    budget: Tensor,
    *,
    undo_last: bool,
    max_steps: int | None = None,
) -> Tensor:
    """Return which classes [B, K] a walk in ascending order of ``keys`` takes.

    It adds up ``steps`` class by class, leaving out ``skipped``, and stops at the first sum
    above ``budget`` [B, 1]; the class that crossed it is undone or kept. Equal keys are walked
    in class order.
    """
    order = keys.masked_fill(skipped, torch.inf).argsort(dim=1, stable=True)
    sums = steps.masked_fill(skipped, 0.0).gather(1, order).cumsum(1)
    crossed = sums > budget
    crossings = crossed.cumsum(1)
    taken = crossings == 0 if undo_last else crossings - crossed.long() == 0
    if max_steps is not None:
        taken = taken & (torch.arange(keys.shape[1], device=keys.device) < max_steps)
    return torch.zeros_like(skipped).scatter(1, order, taken) & ~skipped
