"""USKD: self-distillation with customised soft labels, for the target and for the others.

Yang et al. 2023, "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach
with Normalized Loss and Customized Soft Labels" (arXiv:2303.13005), section 3.2: beside the
cross-entropy a target term whose soft label is the network's own squared confidence, shifted to a
mean of 1; a non-target term whose soft labels follow Zipf's law by rank; and a weak classifier on
the stage before the last, which helps to rank. As in yzd-v/cls_KD@1e5d48f the rank adds the weak
head's PROBABILITIES to the final head's LOG-probabilities (the code overwrites the variable), each
divided by 1 minus the label's. The defaults are those for ImageNet; the code's CIFAR-100 ones are
alpha, beta and mu all 0.1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from benchmark.methods._logits import label_mask
from benchmark.methods._maps import need_maps
from benchmark.methods._precision import full_precision
from benchmark.methods._thesis import label_values
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions
from benchmark.models.layers import global_average

SMOOTHING = 0.1  # of the weak head's labels
SMALL = 1e-6


@full_precision
def target_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy weighted by s^2 + 1 - mean(s^2), s the label's probability."""
    squared = label_values(F.softmax(logits, 1), labels).square()
    weight = (squared + 1 - squared.mean()).detach()
    return -(weight * label_values(F.log_softmax(logits, 1), labels)).mean()


def ranks(logits: Tensor, weak: Tensor, labels: Tensor) -> Tensor:
    """Return the classes [B, K] from the likeliest to the least likely."""
    own, helped = F.log_softmax(logits, 1), F.softmax(weak, 1)
    scores = helped / (1 - label_values(helped, labels) + SMALL)
    scores = scores + own / (1 - label_values(own, labels) + SMALL)
    return scores.argsort(1, descending=True)


@full_precision
def non_target_loss(logits: Tensor, weak: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of the other classes to Zipf's law by rank."""
    batch, classes = logits.shape
    order = ranks(logits, weak, labels).detach()
    law = 1.0 / torch.arange(1, classes + 1, dtype=logits.dtype, device=logits.device)
    probs = torch.empty_like(logits).scatter(1, order, law.expand(batch, -1))
    label = label_mask(logits, labels)
    probs = probs.masked_fill(label, 0.0)
    probs = probs / probs.sum(1, keepdim=True)
    log_probs = F.log_softmax(logits.masked_fill(label, -torch.inf), 1)
    return -(probs * log_probs.masked_fill(label, 0.0)).sum(1).mean()


@full_precision
def weak_loss(weak: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of the weak head to smoothed labels."""
    return F.cross_entropy(weak, labels, label_smoothing=SMOOTHING)


class Options(MethodOptions):
    """Weights of the three terms."""

    ce_weight: float = Field(1.0, ge=0, description="weight of the cross-entropy on the labels")
    alpha: float = Field(1.0, ge=0, description="weight of the target term")
    beta: float = Field(0.1, ge=0, description="weight of the non-target term")
    mu: float = Field(0.005, ge=0, description="weight of the weak classifier's labels")


class USKD(Method[Options]):
    """Customised soft labels, ranked with the help of a weak classifier."""

    needs_teacher = False

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        need_maps("uskd", setup.student)
        channels = setup.student.features.stages[-2].shape[1]
        self.weak = nn.Linear(channels, setup.num_classes)

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return the weighted terms."""
        options, logits, labels = self.options, step.student.logits, step.labels
        weak = self.weak(global_average(step.student.stages[-2]))
        return {
            "target": options.alpha * target_loss(logits, labels),
            "non_target": options.beta * non_target_loss(logits, weak, labels),
            "weak": options.mu * weak_loss(weak, labels),
        }
