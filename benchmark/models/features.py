"""The contract of every network: what it returns, and the parts that methods ask for."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class Features(NamedTuple):
    """What every model returns from ``features(images)``, for a batch of B images.

    logits [B, K]; pooled [B, D], the classifier's input; stages: the stem first, then after
    each stage, [B, C, H, W] (or [B, N, C] for transformers); preacts: the same before their
    last activation (equal to the stage where there is no activation to precede).

    last_map [B, D, H, W]: the map whose mean over space is ``pooled``. It is the last stage in
    most networks, what follows its last batch norm in wide ResNets, and comes after a further
    convolution in MobileNetV2 and ShuffleNetV2; None where the classifier's input is no such
    mean (transformers). CAT-KD and SimKD read it.
    """

    logits: Tensor
    pooled: Tensor
    stages: tuple[Tensor, ...]
    preacts: tuple[Tensor, ...]
    last_map: Tensor | None = None


class Model(nn.Module):
    """A network with features, a linear head, and known batch-norm layers before its ReLUs."""

    def features(self, images: Tensor) -> Features:
        """Return logits, pooled vector, stage maps and their pre-activations."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [B, K] alone."""
        return self.features(images).logits

    @property
    def head(self) -> nn.Linear:
        """The classifier: ``logits = head(pooled)``."""
        raise NotImplementedError

    def batch_norms_before_relu(self) -> tuple[nn.BatchNorm2d, ...]:
        """Return the batch-norm layers whose outputs end in ``preacts[1:]``, aligned from the end.

        OFD takes its margins from them.
        """
        raise NotImplementedError
