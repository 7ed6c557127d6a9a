"""What networks that teach each other share: divergences, mixed targets, the ramp.

Unlike a trained teacher's, a peer's logits may carry gradient: whoever calls these functions
detaches what its method detaches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def divergence(
    student: Tensor, target: Tensor, temperature: float = 1.0, epsilon: float = 0.0
) -> Tensor:
    """Return T^2 KL(target || student), averaged over the batch, of logits [B, K].

    Gradient flows into both. ``epsilon`` is added to the target's probabilities, as several
    published codes do; the value is then no exact divergence.
    """
    log_target = F.log_softmax(target / temperature, dim=1)
    probs = log_target.exp()
    if epsilon:
        probs = probs + epsilon
        log_target = probs.log()
    log_probs = F.log_softmax(student / temperature, dim=1)
    return temperature**2 * (probs * (log_target - log_probs)).sum(1).mean()


def divergence_from(student: Tensor, probs: Tensor, temperature: float = 1.0) -> Tensor:
    """Return T^2 KL(probs || softmax(student / T)), averaged over the batch; both [B, K]."""
    log_probs = F.log_softmax(student / temperature, dim=1)
    entropy: Tensor = torch.special.entr(probs).sum(1)
    value: Tensor = (-(probs * log_probs).sum(1) - entropy).mean()
    return temperature**2 * value


def soft_cross_entropy(student: Tensor, probs: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the cross-entropy of softmax(student / T) to ``probs``, averaged over the batch."""
    return -(probs * F.log_softmax(student / temperature, dim=1)).sum(1).mean()


def mean_of_others(logits: Sequence[Tensor], own: int) -> Tensor:
    """Return the mean of all logits [B, K] but those at position ``own``."""
    return torch.stack([z for i, z in enumerate(logits) if i != own]).mean(0)


def ramp(epoch: int, length: int = 80) -> float:
    """Return the consistency weight of ``epoch`` (from 1): exp(-5 (1 - done / length)^2), then 1.

    As in the codes of ONE, OKDDip, FFL and MCL-OKD, which count epochs from 0.
    """
    if length == 0:
        return 1.0
    done = min(epoch - 1, length) / length
    return math.exp(-5.0 * (1.0 - done) ** 2)
