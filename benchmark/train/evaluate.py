"""Accuracy on a fixed set of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.batches import Batch

Predictor = Callable[[Tensor], Tensor]


class Accuracy(NamedTuple):
    """Top-1 and top-5 in percent, the mean cross-entropy, over ``images`` images."""

    top1: float
    top5: float
    loss: float
    images: int


def evaluate(
    predictors: Sequence[Predictor],
    batches: Iterable[Batch],
    tick: Callable[[], None] = lambda: None,
) -> list[Accuracy]:
    """Evaluate several networks in one pass over the images.

    ``predictors`` map images [B, C, H, W] to logits [B, K], networks in eval mode already;
    ``tick`` is called after every batch (heartbeats). Nothing is synchronised until the end.
    """
    sums: list[Tensor] = []
    count = 0
    with torch.no_grad():
        for batch in batches:
            count += len(batch.labels)
            parts = [_sums(predict(batch.images), batch.labels) for predict in predictors]
            sums = [a + b for a, b in zip(sums, parts, strict=True)] if sums else parts
            tick()
    if not count:
        return []
    found = []
    for total in sums:
        top1, top5, loss = total.tolist()
        found.append(Accuracy(100 * top1 / count, 100 * top5 / count, loss / count, count))
    return found


def _sums(logits: Tensor, labels: Tensor) -> Tensor:
    """Return [correct in first place, correct in the first five, summed loss] in float64."""
    logits = logits.float()
    ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices
    hits = ranked == labels[:, None]
    loss = F.cross_entropy(logits, labels, reduction="sum")
    return torch.stack([hits[:, 0].sum().double(), hits.sum().double(), loss.double()])
