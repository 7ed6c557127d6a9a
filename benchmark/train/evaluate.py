"""Accuracy on a fixed set of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.batches import Batch

Predictor = Callable[[Tensor], Tensor]
Outputs = Callable[[Tensor], Mapping[str, Tensor]]


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
    outputs = [single(predict) for predict in predictors]
    return [found[""] for found in evaluate_outputs(outputs, batches, tick)]


def single(predict: Predictor) -> Outputs:
    """Return a predictor of one output, which has no name."""
    return lambda images: {"": predict(images)}


def evaluate_outputs(
    predictors: Sequence[Outputs],
    batches: Iterable[Batch],
    tick: Callable[[], None] = lambda: None,
) -> list[dict[str, Accuracy]]:
    """Evaluate runs of several outputs each, by name, as :func:`evaluate` does of one."""
    sums: list[dict[str, Tensor]] = []
    count = 0
    with torch.no_grad():
        for batch in batches:
            count += len(batch.labels)
            parts = [
                {
                    name: _sums(logits, batch.labels)
                    for name, logits in predict(batch.images).items()
                }
                for predict in predictors
            ]
            pairs = zip(sums, parts, strict=True) if sums else ()
            sums = [{k: a[k] + b[k] for k in a} for a, b in pairs] or parts
            tick()
    return [{name: _accuracy(total, count) for name, total in one.items()} for one in sums]


def _accuracy(sums: Tensor, count: int) -> Accuracy:
    top1, top5, loss = sums.tolist()
    return Accuracy(100 * top1 / count, 100 * top5 / count, loss / count, count)


def _sums(logits: Tensor, labels: Tensor) -> Tensor:
    """Return [correct in first place, correct in the first five, summed loss] in float64."""
    logits = logits.float()
    ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices
    hits = ranked == labels[:, None]
    loss = F.cross_entropy(logits, labels, reduction="sum")
    return torch.stack([hits[:, 0].sum().double(), hits.sum().double(), loss.double()])
