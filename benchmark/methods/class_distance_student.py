"""Class-distance loss, the student's side: regress the teacher's last vector, take its classifier.

Kim & Kim 2017, "Transferring Knowledge to Smaller Network with Class-Distance Loss" (ICLR
workshop): the squared L2 distance of what enters the last dense layer, whose weights are then the
teacher's. No labels. If the two vectors differ in width a linear map lies between them, which
the classifier sees as well (not in the paper). The teacher is meant to be trained by
``class_distance``; any will do.
"""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions
from benchmark.models.features import Features


@full_precision
def vector_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared distance of vectors [B, D], averaged over the batch."""
    return (student - teacher).square().sum(1).mean()


class Options(MethodOptions):
    """Weights."""

    ce_weight: float = Field(0.0, ge=0, description="weight of the cross-entropy on the labels")
    weight: float = Field(1.0, ge=0, description="weight of the squared distance")


class ClassDistanceStudent(Method[Options]):
    """The teacher's last vector, and predictions by its classifier."""

    teacher_maps = ("pooled",)

    head_weight: Tensor
    head_bias: Tensor

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        teacher = setup.need_teacher()
        own = setup.student.features.pooled.shape[1]
        width = teacher.features.pooled.shape[1]
        self.map = nn.Identity() if own == width else nn.Linear(own, width)
        head = teacher.model.head
        self.register_buffer("head_weight", head.weight.detach().clone())
        self.register_buffer("head_bias", head.bias.detach().clone())

    def loss(self, step: Step) -> Tensor:
        """Return the weighted squared distance."""
        mapped = self.map(step.student.pooled)
        return self.options.weight * vector_loss(mapped, step.need_teacher().pooled)

    def predict(self, student: Features) -> Tensor:
        """Return the teacher's classifier [B, K] on the student's vector."""
        logits: Tensor = F.linear(self.map(student.pooled), self.head_weight, self.head_bias)
        return logits
