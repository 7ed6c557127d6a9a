"""Students of several heads: one for the labels, further ones for what teachers say."""

from __future__ import annotations

from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.methods.base import Setup
from benchmark.models.features import Features
from benchmark.models.layers import sum_of


class Heads(nn.Module):
    """The logits of each head: the student's own, or layers beside its classifier.

    A student of one head (a CNN, a plain DeiT) gets ``count`` - 1 linear layers on its pooled
    vector. Raises UserError for a student that has several, but not so many.
    """

    def __init__(self, method: str, setup: Setup, count: int) -> None:
        super().__init__()
        own = setup.student.features.heads
        if own and len(own) != count:
            raise UserError(
                f"{method} trains {count} heads here, and {setup.student.name} has {len(own)} of"
                " its own"
            )
        width, missing = setup.student.features.pooled.shape[1], 0 if own else count - 1
        self.added = nn.ModuleList(nn.Linear(width, setup.num_classes) for _ in range(missing))

    def forward(self, student: Features) -> tuple[Tensor, ...]:
        """Return the logits [B, K] of each, the labels' head first."""
        if student.heads:
            return student.heads
        return student.logits, *(head(student.pooled) for head in self.added)

    def mean(self, student: Features) -> Tensor:
        """Return the mean of all heads' logits [B, K], which is what is evaluated."""
        if student.heads:
            return student.logits
        each = self(student)
        return sum_of(each) / len(each)
