"""Losses of networks that teach themselves across images, steps and cycles.

CS-KD, DDGSD, DLB, snapshot distillation, rocket launching and the class-distance loss; each file
says where its own comes from.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.methods._peers import divergence, soft_cross_entropy
from benchmark.methods._precision import full_precision


@full_precision
def partner_loss(student: Tensor, partner: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(partner || student) of logits [B, K]; the partner is detached (CS-KD)."""
    return divergence(student, partner.detach(), temperature)


@full_precision
def both_ways_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Return the divergences of two views' logits [B, K], each from the other's detached."""
    forth = divergence(first, second.detach(), temperature)
    return forth + divergence(second, first.detach(), temperature)


@full_precision
def mean_feature_loss(first: Tensor, second: Tensor) -> Tensor:
    """Return the squared difference of the means of all features [B, D] of two views."""
    return (first.mean() - second.mean()).square()


@full_precision
def joint_labels_loss(now: Tensor, labels: Tensor, past: Tensor, past_labels: Tensor) -> Tensor:
    """Return the cross-entropy of two batches taken together (DLB)."""
    return F.cross_entropy(torch.cat([now, past]), torch.cat([labels, past_labels]))


@full_precision
def snapshot_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy of logits [B, K] to the snapshot's softened answers.

    Only the snapshot is softened; no T^2.
    """
    return soft_cross_entropy(student, F.softmax(teacher.detach() / temperature, 1))


def teacher_epoch(epoch: int, epochs: int, cycles: int) -> int:
    """Return after which epoch the copy was taken that teaches ``epoch``; 0: none yet."""
    length = max(epochs // cycles, 1)
    return (epoch - 1) // length * length


@full_precision
def hint_loss(light: Tensor, booster: Tensor) -> Tensor:
    """Return the squared distance of logits [B, K], averaged over the batch (rocket)."""
    return (booster - light).square().sum(1).mean()


@full_precision
def pull_loss(features: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
    """Return the mean squared distance of features [B, D] to their own class's centre [K, D]."""
    return (features - centres[labels]).square().sum(1).mean()


@full_precision
def push_loss(features: Tensor, labels: Tensor, centres: Tensor, bound: float) -> Tensor:
    """Return the mean over other classes of the squared distance to their centres, bounded."""
    distances = (features.unsqueeze(1) - centres).square().sum(2).clamp(max=bound)
    others = torch.ones_like(distances).scatter(1, labels.unsqueeze(1), 0.0)
    return (distances * others).sum() / others.sum()
