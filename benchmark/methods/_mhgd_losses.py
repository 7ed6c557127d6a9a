"""The multi-head graph of MHGD: attention between stages, its estimator, its transfer.

See mhgd.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.methods._precision import full_precision


class Attention(nn.Module):
    """Scores S [H, B, B] between a later stage's vectors (rows) and an earlier stage's."""

    def __init__(self, later: int, earlier: int, width: int, heads: int) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.sfc = nn.Linear(later, width * heads, bias=False)
        self.sbn = nn.BatchNorm1d(width * heads)
        self.rfc = nn.Linear(earlier, width * heads, bias=False)
        self.rbn = nn.BatchNorm1d(width * heads)

    def forward(self, later: Tensor, earlier: Tensor) -> Tensor:
        """Return the scores of vectors [B, D] and [B, D']; the head index runs fastest."""
        senders = self.sbn(self.sfc(later)).view(-1, self.width, self.heads)
        receivers = self.rbn(self.rfc(earlier)).view(-1, self.width, self.heads)
        return torch.einsum("bwh,cwh->hbc", senders, receivers)


class Estimator(nn.Module):
    """Guesses a later stage's vectors from an earlier stage's along the graph."""

    def __init__(self, later: int, earlier: int, width: int, heads: int) -> None:
        super().__init__()
        self.fc0 = nn.Linear(earlier, width, bias=False)
        self.bn0 = nn.BatchNorm1d(width)
        self.fc1 = nn.Linear(width * heads, later)

    def forward(self, earlier: Tensor, graph: Tensor) -> Tensor:
        """Return unit vectors [B, D] from vectors [B, D'] and a graph [H, B, B]."""
        hidden = F.relu(self.bn0(self.fc0(earlier)))
        gathered = (graph @ hidden).permute(1, 0, 2).flatten(1)
        return F.normalize(self.fc1(gathered), dim=1)


def kept_heads(noise: Tensor) -> Tensor:
    """Return which heads stay [H, B, 1]: those whose noise lies above its mean over the heads."""
    return (noise > noise.mean(0, keepdim=True)).to(noise.dtype)


@full_precision
def estimator_loss(estimated: Tensor, vectors: Tensor) -> Tensor:
    """Return the mean of 1 - cosine, of unit vectors [B, D]."""
    return (1 - (estimated * vectors).sum(1)).mean()


@full_precision
def transfer_loss(student: Tensor, teacher: Tensor, *, squash: bool = True) -> Tensor:
    """Return KL(softmax(student) || softmax(teacher)) summed over heads and rows of [H, B, B].

    ``squash`` takes tanh of the scores first, as the code does and the equations do not.
    """
    if squash:
        student, teacher = student.tanh(), teacher.tanh()
    log_student, log_teacher = student.log_softmax(2), teacher.log_softmax(2)
    return (log_student.exp() * (log_student - log_teacher)).sum()
