"""DDGSD: two augmentations of an image must be answered alike.

Xu & Liu 2019, "Data-Distortion Guided Self-Distillation for Deep Neural Networks" (AAAI),
equations 2 to 6: labels on both views, the divergence of their answers both ways (targets
detached), and the distance of their global mean features. As in winycg/Self-KD-Lib@ede3062:
temperature 4 with T^2, weight 1; the mean cross-entropy of both views counts half; the features'
term is 5e-4 times the squared difference of ONE mean each, over the batch and all features (the
paper's is a maximum mean discrepancy of vectors). Each view is a pass of its own, with batch
statistics of its own.
"""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods._self_losses import both_ways_loss, mean_feature_loss
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions


class Options(MethodOptions):
    """Weights and temperature."""

    ce_weight: float = Field(0.25, ge=0, description="weight of each view's labels")
    weight: float = Field(1.0, ge=0, description="weight of the divergences")
    feature_weight: float = Field(5e-4, ge=0, description="weight of the mean features' distance")
    temperature: float = Field(4.0, gt=0, description="divides the logits of both views")


class DDGSD(Method[Options]):
    """A second view that teaches the first and learns from it."""

    relational = True
    needs_teacher = False
    companions = (("view", 1),)

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self._student = (setup.student.model,)

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return the second view's labels and what the views say of each other."""
        options, first = self.options, step.student
        second = step.run(self._student[0], step.companions[0].images)
        answers = both_ways_loss(first.logits, second.logits, options.temperature)
        features = mean_feature_loss(first.pooled, second.pooled)
        return {
            "labels": options.ce_weight * F.cross_entropy(second.logits, step.labels),
            "answers": options.weight * answers,
            "features": options.feature_weight * features,
        }
