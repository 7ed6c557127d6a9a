"""Cosines of cross-entropy's and BinaryKL's gradients by layer, and how the classifier collapses.

After the propositions of Yang et al. 2024, "Dual-Head Knowledge Distillation" (arXiv:2411.08937):
below zero the two losses on one classifier pull a weight apart. Both are taken of the student's
own logits on one batch of training images in eval mode, BinaryKL against the teacher's at
temperature 2. ``simplex`` is how far the classifier is from the corners of a simplex, to which
cross-entropy drives it (Papyan et al. 2020, arXiv:2008.08186).

Without a teacher the simplex alone is recorded; nothing if a method predicts in the
classifier's place.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.methods.base import Method
from benchmark.methods.binarykl import binarykl_loss
from benchmark.models.features import Model
from benchmark.train.observed import Observation

TEMPERATURE = 2.0


class Cosines(NamedTuple):
    """Cosines of two gradients: by weight tensor from the first layer on, and over all of them.

    ``classifier``: the name of the classifier's; ``backbone``: over all others as one vector.
    """

    tensors: dict[str, float]
    classifier: str
    backbone: float


def observe(seen: Observation) -> dict[str, Any] | None:
    """Return cosines by tensor, of the backbone and of the classifier, and the simplex."""
    if any(type(method).predict is not Method.predict for _, method in seen.methods):
        return None
    model, batch = seen.student.model, seen.batches[0]
    found: dict[str, Any] = {"simplex": simplex_distance(model.head.weight.detach().cpu())}
    taught = seen.taught(0)
    if taught is None:
        return found
    with torch.enable_grad(), seen.student.autocast():
        logits = seen.features(batch).logits
        wanted = batch.labels if batch.targets is None else batch.targets
        first = F.cross_entropy(logits, wanted)
        second = binarykl_loss(logits, taught.logits, TEMPERATURE)
    cosines = gradient_cosines(model, first, second)
    return found | {
        "cosines": cosines.tensors,
        "classifier": cosines.classifier,
        "backbone": cosines.backbone,
    }


def gradient_cosines(model: Model, first: Tensor, second: Tensor) -> Cosines:
    """Return the cosines of two losses' gradients into a network's weight tensors."""
    weights = {n: p for n, p in model.named_parameters() if p.ndim > 1 and p.requires_grad}
    tensors = list(weights.values())
    ours, theirs = (
        torch.autograd.grad(loss, tensors, retain_graph=keep, allow_unused=True)
        for loss, keep in ((first, True), (second, False))
    )
    products = {
        name: _products(a, b)
        for name, a, b in zip(weights, ours, theirs, strict=True)
        if a is not None and b is not None
    }
    classifier = next(name for name, p in weights.items() if p is model.head.weight)
    body = [of for name, of in products.items() if name != classifier]
    return Cosines(
        {name: _cosine(of) for name, of in products.items()},
        classifier,
        _cosine(torch.stack(body).sum(0)) if body else 0.0,
    )


def _products(a: Tensor, b: Tensor) -> Tensor:
    a, b = a.flatten().double(), b.flatten().double()
    return torch.stack([a @ b, a @ a, b @ b])


def _cosine(products: Tensor) -> float:
    both, first, second = products.tolist()
    return float(f"{both / (first * second) ** 0.5:.6g}") if first > 0 and second > 0 else 0.0


def simplex_distance(weight: Tensor) -> float:
    """Return how far a classifier's rows [K, D] are from the corners of a simplex, 0 at best.

    The mean over pairs of classes of |cos + 1 / (K - 1)| of its centred rows.
    """
    count = len(weight)
    rows = F.normalize((weight - weight.mean(0)).double(), dim=1)
    apart = (rows @ rows.T + 1 / (count - 1)).abs()
    return float(apart[~torch.eye(count, dtype=torch.bool)].mean())
