"""USKD: self-distillation with customised soft labels, for the target and for the others.

Yang et al. 2023, "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach
with Normalized Loss and Customized Soft Labels" (arXiv:2303.13005), section 3.2: beside the
cross-entropy a target term whose soft label is the network's own squared confidence, shifted to a
mean of 1; a non-target term whose soft labels follow Zipf's law by rank; and a weak classifier on
the stage before the last, which helps to rank. As in yzd-v/cls_KD@1e5d48f the rank adds the weak
head's PROBABILITIES to the final head's LOG-probabilities (the code overwrites the variable), each
divided by 1 minus the label's. The defaults are those for ImageNet; the code's CIFAR-100 ones are
alpha, beta and mu all 0.1.

If images are mixed both classes are labels, with their shares for values; the code's labels
are not smoothed, though those of the cross-entropy are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions
from benchmark.models.features import Features
from benchmark.models.layers import global_average

SMOOTHING = 0.1  # of the weak head's labels
SMALL = 1e-6


def labels_of(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the labels and their values [B, 1]; the two largest [B, 2] of soft labels [B, K]."""
    if labels.dim() == 1:
        return labels.unsqueeze(1), torch.ones_like(labels).unsqueeze(1)
    values, classes = labels.sort(dim=1, descending=True)
    return classes[:, :2], values[:, :2]


@full_precision
def target_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of each label, weighted by s^2 + its value - mean(s^2).

    s is the label's probability, its mean over the batch; a label of value 0 has no weight.
    """
    classes, values = labels_of(labels)
    squared = F.softmax(logits, 1).gather(1, classes).square()
    weight = (squared + values - squared.mean(0, keepdim=True)).masked_fill(values == 0, 0.0)
    return -(weight.detach() * F.log_softmax(logits, 1).gather(1, classes)).sum(1).mean()


def ranks(logits: Tensor, weak: Tensor, labels: Tensor) -> Tensor:
    """Return the classes [B, K] from the likeliest to the least likely."""
    classes, _ = labels_of(labels)
    own, helped = F.log_softmax(logits, 1), F.softmax(weak, 1)
    scores = helped / (1 - helped.gather(1, classes).sum(1, keepdim=True) + SMALL)
    scores = scores + own / (1 - own.gather(1, classes).sum(1, keepdim=True) + SMALL)
    return scores.argsort(1, descending=True)


@full_precision
def non_target_loss(logits: Tensor, weak: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of the other classes to Zipf's law by rank."""
    batch, number = logits.shape
    classes, _ = labels_of(labels)
    order = ranks(logits, weak, labels).detach()
    law = 1.0 / torch.arange(1, number + 1, dtype=logits.dtype, device=logits.device)
    probs = torch.empty_like(logits).scatter(1, order, law.expand(batch, -1))
    label = torch.zeros_like(logits, dtype=torch.bool).scatter(1, classes, True)
    probs = probs.masked_fill(label, 0.0)
    probs = probs / probs.sum(1, keepdim=True)
    log_probs = F.log_softmax(logits.masked_fill(label, -torch.inf), 1)
    return -(probs * log_probs.masked_fill(label, 0.0)).sum(1).mean()


@full_precision
def weak_loss(weak: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of the weak head to smoothed labels."""
    return F.cross_entropy(weak, labels, label_smoothing=SMOOTHING)


def unsmoothed(targets: Tensor) -> Tensor:
    """Return mixed labels [B, K] without their smoothing, which is the value of all others.

    At most two classes of an image are mixed, so with three classes or more the least value of
    a row is what smoothing gives to each; with two there is nothing to tell it by.
    """
    least = targets.amin(1, keepdim=True)
    if targets.shape[1] < 3:
        return targets
    return (targets - least) / (1 - least * targets.shape[1])


def middle_feature(features: Features) -> Tensor:
    """Return what the weak classifier reads [B, D].

    The mean of the stage before the last; of a transformer the class token after half of the
    blocks, before any norm.
    """
    if features.stages[-1].dim() == 3:
        return features.stages[len(features.stages) // 2][:, 0]
    return global_average(features.stages[-2])


class Options(MethodOptions):
    """Weights of the three terms."""

    ce_weight: float = Field(1.0, ge=0, description="weight of the cross-entropy on the labels")
    alpha: float = Field(1.0, ge=0, description="weight of the target term")
    beta: float = Field(0.1, ge=0, description="weight of the non-target term")
    mu: float = Field(0.005, ge=0, description="weight of the weak classifier's labels")


class USKD(Method[Options]):
    """Customised soft labels, ranked with the help of a weak classifier."""

    relational = True
    needs_teacher = False

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        width = middle_feature(setup.student.features).shape[1]
        self.weak = nn.Linear(width, setup.num_classes)

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return the weighted terms."""
        options, logits = self.options, step.student.logits
        labels = step.labels if step.targets is None else unsmoothed(step.targets)
        weak = self.weak(middle_feature(step.student))
        return {
            "target": options.alpha * target_loss(logits, labels),
            "non_target": options.beta * non_target_loss(logits, weak, labels),
            "weak": options.mu * weak_loss(weak, labels),
        }
