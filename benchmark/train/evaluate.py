"""Accuracy on a fixed set of images."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.batches import Batch
from benchmark.train.crew import ALONE, Crew

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
    crew: Crew = ALONE,
) -> list[Accuracy]:
    """Evaluate several networks in one pass over the images.

    ``predictors`` map images [B, C, H, W] to logits [B, K], networks in eval mode already;
    ``tick`` is called after every batch (heartbeats). Nothing is synchronised until the end.
    ``batches`` are those whose turn is this process's; the numbers are those of all of them, added
    in their order, whoever took which.
    """
    outputs = [single(predict) for predict in predictors]
    return [found[""] for found in evaluate_outputs(outputs, batches, tick, crew)]


def single(predict: Predictor) -> Outputs:
    """Return a predictor of one output, which has no name."""
    return lambda images: {"": predict(images)}


def evaluate_outputs(
    predictors: Sequence[Outputs],
    batches: Iterable[Batch],
    tick: Callable[[], None] = lambda: None,
    crew: Crew = ALONE,
) -> list[dict[str, Accuracy]]:
    """Evaluate runs of several outputs each, by name, as :func:`evaluate` does of one."""
    own: list[tuple[int, list[dict[str, Tensor]]]] = []
    with torch.no_grad():
        for batch in crew.rounds(iter(batches)):
            if batch is not None:
                found = [predict(batch.images) for predict in predictors]
                parts = [{k: _sums(v, batch.labels) for k, v in one.items()} for one in found]
                own.append((len(batch.labels), parts))
            tick()
    everybody = crew.objects([(size, _plain(parts)) for size, parts in own])
    turns = [batch for turn in itertools.zip_longest(*everybody) for batch in turn if batch]
    count = sum(size for size, _ in turns)
    if not turns:
        return []
    totals = turns[0][1]
    for _, batch_sums in turns[1:]:
        pairs = zip(totals, batch_sums, strict=True)
        totals = [{k: _added(a[k], b[k]) for k in a} for a, b in pairs]
    return [{name: _accuracy(sums, count) for name, sums in one.items()} for one in totals]


def _plain(parts: list[dict[str, Tensor]]) -> list[dict[str, list[float]]]:
    return [{name: sums.tolist() for name, sums in one.items()} for one in parts]


def _added(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [a + b for a, b in zip(one, other, strict=True)]


def _accuracy(sums: Sequence[float], count: int) -> Accuracy:
    top1, top5, loss = sums
    return Accuracy(100 * top1 / count, 100 * top5 / count, loss / count, count)


def _sums(logits: Tensor, labels: Tensor) -> Tensor:
    """Return [correct in first place, correct in the first five, summed loss] in float64."""
    logits = logits.float()
    ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices
    hits = ranked == labels[:, None]
    loss = F.cross_entropy(logits, labels, reduction="sum")
    return torch.stack([hits[:, 0].sum().double(), hits.sum().double(), loss.double()])
