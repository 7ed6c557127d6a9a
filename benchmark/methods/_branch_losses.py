"""Losses of networks that share a trunk: OKDDip, ONE, CL-ILR, FFL and PCL."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.methods._peers import divergence, divergence_from, mean_of_others
from benchmark.methods._precision import full_precision

EPSILON = 1e-7  # what the published codes add to a target's probabilities
TEMPERATURE = 3.0


# -- OKDDip -------------------------------------------------------------------------------------


def attention(pooled: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Return alpha [B, A, A]: row a weights all auxiliary peers for peer a, itself included.

    pooled [B, A, D]: every peer's vector before its classifier; query, key [D', D]. The scores
    are not scaled by the width.
    """
    scores = (pooled @ query.T) @ (pooled @ key.T).transpose(1, 2)
    return scores.softmax(2)


@full_precision
def okddip_loss(
    leader: Tensor,
    peers: Sequence[Tensor],
    pooled: Sequence[Tensor],
    query: Tensor,
    key: Tensor,
    temperature: float = TEMPERATURE,
    *,
    mix_probabilities: bool = False,
    detach: bool = False,
) -> Tensor:
    """Return what the auxiliary peers learn from their mixtures, and the leader from their mean.

    Logits [B, K] and pooled vectors [B, D]. Nothing is detached: the projections learn through
    the targets alone.
    """
    alpha = attention(torch.stack(list(pooled), 1), query, key)
    stacked = torch.stack(list(peers), 1)  # [B, A, K]
    if mix_probabilities:
        stacked = F.softmax(stacked / temperature, 2)
    mixed, mean = alpha @ stacked, stacked.mean(1)
    if detach:
        mixed, mean = mixed.detach(), mean.detach()
    targets = [*mixed.unbind(1), mean]
    students = [*peers, leader]
    if mix_probabilities:
        parts = [divergence_from(z, t, temperature) for z, t in zip(students, targets, strict=True)]
    else:
        parts = [
            divergence(z, t, temperature, EPSILON) for z, t in zip(students, targets, strict=True)
        ]
    return torch.stack(parts).sum()


# -- ONE ----------------------------------------------------------------------------------------


class Gate(nn.Module):
    """Weighs the branches of a trunk for every sample, from the trunk's pooled map."""

    def __init__(self, channels: int, branches: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, branches)
        self.bn = nn.BatchNorm1d(branches)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return weights [B, branches] that sum to 1, of pooled trunk features [B, C]."""
        return F.relu(self.bn(self.fc(pooled))).softmax(1)


def gated_logits(logits: Sequence[Tensor], gate: Tensor) -> Tensor:
    """Return the branches' logits [B, K] mixed by a gate [B, M]."""
    return torch.einsum("bm,mbk->bk", gate, torch.stack(list(logits)))


@full_precision
def ensemble_loss(
    logits: Sequence[Tensor],
    ensemble: Tensor,
    temperature: float = TEMPERATURE,
    *,
    detach: bool = True,
) -> Tensor:
    """Return the sum of divergences of every branch from the gated ensemble."""
    target = ensemble.detach() if detach else ensemble
    return torch.stack([divergence(z, target, temperature, EPSILON) for z in logits]).sum()


# -- CL-ILR -------------------------------------------------------------------------------------


@full_precision
def collaborative_loss(logits: Sequence[Tensor], temperature: float = TEMPERATURE) -> Tensor:
    """Return the sum of every head's divergence from the mean of the others, undetached."""
    parts = [
        divergence(z, mean_of_others(logits, i), temperature, EPSILON) for i, z in enumerate(logits)
    ]
    return torch.stack(parts).sum()


class _Rescaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, value: Tensor, factor: float) -> Tensor:
        ctx.factor = factor  # type: ignore[attr-defined]
        return value.view_as(value)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.factor, None  # type: ignore[attr-defined]


def rescaled(value: Tensor, factor: float) -> Tensor:
    """Return ``value`` as it is; gradients through it are multiplied by ``factor``."""
    scaled: Tensor = _Rescaled.apply(value, factor)  # type: ignore[no-untyped-call]
    return scaled


# -- FFL ----------------------------------------------------------------------------------------


@full_precision
def fusion_loss(
    subnets: Sequence[Tensor], fused: Tensor, temperature: float = TEMPERATURE
) -> Tensor:
    """Return: every sub-network learns from the fused classifier, that one from their mean."""
    target = fused.detach()
    parts = [divergence(z, target, temperature, EPSILON) for z in subnets]
    mean = torch.stack(list(subnets)).mean(0).detach()
    parts.append(divergence(fused, mean, temperature, EPSILON))
    return torch.stack(parts).sum()


# -- PCL ----------------------------------------------------------------------------------------


@full_precision
def peer_loss(
    peers: Sequence[Tensor],
    ensemble: Tensor,
    averaged: Sequence[Tensor],
    temperature: float = TEMPERATURE,
) -> Tensor:
    """Return: every peer learns from the ensemble, and from the other peers' moving averages."""
    target = ensemble.detach()
    parts = []
    for i, z in enumerate(peers):
        parts.append(divergence(z, target, temperature))
        others = [divergence(z, a.detach(), temperature) for j, a in enumerate(averaged) if j != i]
        parts.append(torch.stack(others).mean())
    return torch.stack(parts).sum()


def average_decay(step: int, largest: float = 0.999) -> float:
    """Return the decay of a moving average at its update number ``step``, from 0."""
    return min(1.0 - 1.0 / (step + 1), largest)
