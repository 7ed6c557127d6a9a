"""The adversarial game of AFD on feature maps; see afd.py."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Discriminator(nn.Module):
    """Says how much a map looks like the other network's: convolution, mean, linear, sigmoid."""

    def __init__(self, channels: int, width: int | None = None) -> None:
        super().__init__()
        width = channels if width is None else width
        self.conv = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        self.fc = nn.Linear(width, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Return [B, 1] in (0, 1) for maps [B, C, H, W]."""
        pooled = F.relu(self.conv(maps)).mean((2, 3))
        verdict: Tensor = self.fc(pooled).sigmoid()
        return verdict


def teachers_of(count: int) -> list[int]:
    """Return from whom each network learns: a cycle, one way; of two, each from the other."""
    return [(k - 1) % count for k in range(count)]


def generator_loss(maps: Sequence[Tensor], discriminators: Sequence[nn.Module]) -> Tensor:
    """Return the sum over networks of mean (1 - D_k(T_k(G_k)))^2, equation 39 of the survey."""
    parts = [(1 - d(m)).square().mean() for m, d in zip(maps, discriminators, strict=True)]
    return torch.stack(parts).sum()


def discriminator_loss(maps: Sequence[Tensor], discriminators: Sequence[nn.Module]) -> Tensor:
    """Return the sum of mean (1 - D_k(T_n(G_n)))^2 + mean D_k(T_k(G_k))^2, on detached maps."""
    seen = [m.detach() for m in maps]
    parts = []
    for k, n in enumerate(teachers_of(len(seen))):
        judge = discriminators[k]
        parts.append((1 - judge(seen[n])).square().mean() + judge(seen[k]).square().mean())
    return torch.stack(parts).sum()
