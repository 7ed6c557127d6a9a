"""Dual-head KD: the logit-level loss trains the backbone through a head of its own.

Yang et al. 2024, "Dual-Head Knowledge Distillation" (arXiv:2411.08937, KDD 2025): cross-entropy
on the usual classifier, BinaryKL-Norm against the teacher's logits on an auxiliary one; only
the usual one predicts. If the two gradients conflict, the auxiliary one loses its component
against the other (gradient alignment).

The defaults are the published CIFAR-100 command (resnet32x4 -> ShuffleNetV2): nonlinear head,
alignment, alpha 1, temperature 2, no clipping. The values of alpha per pair, and for which
pairs the linear head or no alignment was used, are unpublished. The published ImageNet
command differs: linear head, no alignment, alpha 0.1 until epoch 49 and 0 from epoch 50
(``stop_epoch``), and its script steps the optimiser twice with each gradient
(``steps_per_batch`` 2), which reads as a slip but may have made the published number. That
script breaks an epoch off when its loss is NaN; here the engine decides about diverged runs.

The head is a part of the network in the authors' code, so its linear layers are initialised as the
network's own: from N(0, 0.01^2) with zero biases in VGG and MobileNetV2, with zero biases in wide
ResNets, as torch does elsewhere.

Alignment in compositions: the paper has two terms; with more, the reference direction is the
gradient of the sum of all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.binarykl import binarykl_loss
from benchmark.methods.binaryklnorm import binaryklnorm_loss
from benchmark.methods.options import MethodOptions


class NonlinearHead(nn.Module):
    """Linear, dropout, batch norm, ReLU, linear: [B, D] to [B, K]."""

    def __init__(self, in_features: int, hidden: int, dropout: float, num_classes: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(in_features, hidden),
            nn.Dropout(dropout),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, pooled: Tensor) -> Tensor:
        """Return the auxiliary logits. Raises UserError for a training batch of one."""
        if self.training and len(pooled) < 2:
            raise UserError(
                "dhkd: the nonlinear head normalises over the batch, so a batch needs two images;"
                " change the batch size or set head: linear"
            )
        logits: Tensor = self.net(pooled)
        return logits


@torch.no_grad()
def aligned_gradients(
    rest: Sequence[Tensor | None], own: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Return the sum of both gradients, ``own`` without its component against ``rest``.

    Both are treated as one flat vector over all parameters, None as zeros. If their dot
    product is negative, ``own`` loses dot / |rest|^2 times ``rest``; ``rest`` is never changed.
    Nothing here waits for the device.
    """
    pairs = [(r, o) for r, o in zip(rest, own, strict=True) if r is not None and o is not None]
    squares = [r.square().sum() for r in rest if r is not None]
    if not pairs or not squares:
        return added_gradients(rest, own)
    dot = torch.stack([(r * o).sum() for r, o in pairs]).sum()
    norm = torch.stack(squares).sum()
    # A negative dot product implies a positive norm; elsewhere the share is exactly zero.
    share = dot.clamp(max=0.0) / torch.where(norm > 0, norm, 1.0)
    scaled = [None if r is None else r - share * r for r in rest]
    return added_gradients(scaled, own)


@torch.no_grad()
def added_gradients(
    rest: Sequence[Tensor | None], own: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Return the sum of both gradients; None if a parameter has neither."""
    return [o if r is None else r if o is None else r + o for r, o in zip(rest, own, strict=True)]


class Options(MethodOptions):
    """Weights, the auxiliary head and the gradient rule."""

    ce_weight: float = Field(
        1.0, ge=0, description="weight of the cross-entropy on the labels (the paper's gamma)"
    )
    alpha: float = Field(
        1.0, ge=0, description="weight of the auxiliary head's loss; per pair, unpublished"
    )
    temperature: float = Field(2.0, gt=0, description="divides the auxiliary loss's logits")
    loss: Literal["binaryklnorm", "binarykl"] = Field(
        "binaryklnorm", description="the auxiliary head's loss; the published runs use the norm"
    )
    head: Literal["linear", "nonlinear"] = Field("nonlinear", description="the auxiliary head")
    hidden: int = Field(200, ge=1, description="width of the nonlinear head")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout in the nonlinear head")
    gradient_alignment: bool = Field(
        True, description="remove from this term's gradient what opposes all others'"
    )
    clip_norm: float | None = Field(
        None, gt=0, description="clip the norm of the merged gradient of all trained parameters"
    )
    stop_epoch: int | None = Field(
        None, ge=1, description="alpha is 0 from this epoch on (ImageNet: 50)"
    )
    steps_per_batch: int = Field(
        1, ge=1, le=2, description="optimiser steps with each gradient (ImageNet script: 2)"
    )

    @property
    def has_gradient_rule(self) -> bool:
        """True where gradients are aligned, clipped or stepped twice."""
        return self.gradient_alignment or self.clip_norm is not None or self.steps_per_batch != 1

    @property
    def clips_gradients(self) -> bool:
        """True if ``clip_norm`` is set; it then stands in for the recipe's."""
        return self.clip_norm is not None


class DHKD(Method[Options]):
    """Dual-head KD; the auxiliary head is dropped after training."""

    version = 3
    teacher_maps = ()

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        in_features = setup.student.features.pooled.shape[1]
        self.head: nn.Module
        if options.head == "linear":
            self.head = nn.Linear(in_features, setup.num_classes)
        else:
            self.head = NonlinearHead(
                in_features, options.hidden, options.dropout, setup.num_classes
            )
        for module in self.head.modules():
            if isinstance(module, nn.Linear):
                setup.student.model.init_linear(module)

    def loss(self, step: Step) -> Tensor:
        """Return the weighted loss of the auxiliary head on the student's pooled features."""
        options = self.options
        distance = binaryklnorm_loss if options.loss == "binaryklnorm" else binarykl_loss
        auxiliary = self.head(step.student.pooled)
        stopped = options.stop_epoch is not None and step.epoch >= options.stop_epoch
        # The stopped term stays in the graph: the head keeps its (zero) gradient and decays.
        weight = 0.0 if stopped else options.alpha
        return weight * distance(auxiliary, step.need_teacher().logits, options.temperature)

    def update(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[nn.Parameter],
        rest: Sequence[Tensor | None],
        own: Sequence[Tensor | None],
    ) -> None:
        """Merge both gradients, aligned and clipped as the options say, and step.

        With alignment a trained parameter without any gradient gets zeros, as in the
        reference, so that weight decay and momentum still move it.
        """
        options = self.options
        if options.gradient_alignment:
            merged = aligned_gradients(rest, own)
        else:
            merged = added_gradients(rest, own)
        for parameter, gradient in zip(parameters, merged, strict=True):
            if gradient is None and options.gradient_alignment and parameter.requires_grad:
                gradient = torch.zeros_like(parameter)
            parameter.grad = gradient
        if options.clip_norm is not None:
            nn.utils.clip_grad_norm_(parameters, options.clip_norm)
        for _ in range(options.steps_per_batch):
            optimizer.step()
