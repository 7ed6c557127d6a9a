"""Losses of Be Your Own Teacher and of deeply supervised synergy; see byot.py and dks.py."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.methods._peers import divergence, soft_cross_entropy
from benchmark.methods._precision import full_precision


@full_precision
def soft_label_loss(
    shallow: Sequence[Tensor], deepest: Tensor, temperature: float, *, squared: bool = True
) -> Tensor:
    """Return the sum of soft cross-entropies of logits [B, K] to the deepest's, detached."""
    probs = F.softmax(deepest.detach() / temperature, 1)
    total = torch.stack([soft_cross_entropy(z, probs, temperature) for z in shallow]).sum()
    return temperature**2 * total if squared else total


@full_precision
def divergences(shallow: Sequence[Tensor], deepest: Tensor, temperature: float) -> Tensor:
    """Return the sum of T^2 KL(deepest || shallow) of logits [B, K]; the deepest is detached."""
    target = deepest.detach()
    return torch.stack([divergence(z, target, temperature) for z in shallow]).sum()


@full_precision
def labels_loss(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Return the sum of cross-entropies of several classifiers' logits [B, K]."""
    return torch.stack([F.cross_entropy(z, labels) for z in logits]).sum()


@full_precision
def squared_features(shallow: Sequence[Tensor], deepest: Tensor) -> Tensor:
    """Return the sum of squared distances [B, D], a mean over the batch; the deepest detached."""
    target = deepest.detach()
    return torch.stack([(f - target).square().sum(1).mean() for f in shallow]).sum()


@full_precision
def mean_squared_features(shallow: Sequence[Tensor], deepest: Tensor) -> Tensor:
    """Return the squared differences, a mean over samples and features; the deepest detached."""
    target = deepest.detach()
    return torch.stack([F.mse_loss(f, target) for f in shallow]).sum()


@full_precision
def positive_features(shallow: Sequence[Tensor], deepest: Tensor) -> Tensor:
    """Return the squared differences where either is positive, summed over everything."""
    target = deepest.detach()
    parts = [((f - target).square() * ((f > 0) | (target > 0))).sum() for f in shallow]
    return torch.stack(parts).sum()


@full_precision
def root_features(shallow: Sequence[Tensor], deepest: Tensor) -> Tensor:
    """Return the sum of L2 norms of differences over the whole batch, not squared.

    Its gradient at equal features is taken as zero.
    """
    target = deepest.detach()
    parts = [torch.linalg.vector_norm(f - target) for f in shallow]
    return torch.stack(parts).sum()


@full_precision
def synergy_loss(logits: Sequence[Tensor], temperature: float) -> Tensor:
    """Return the sum of T^2 KL(j || i) over all ordered pairs of heads; targets detached."""
    parts = [
        divergence(z, other.detach(), temperature)
        for i, z in enumerate(logits)
        for j, other in enumerate(logits)
        if i != j
    ]
    return torch.stack(parts).sum()
