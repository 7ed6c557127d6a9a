"""SRRL: the student's feature should mean the same to the teacher's classifier.

Yang et al. 2021, "Knowledge Distillation via Softmax Regression Representation Learning" (ICLR).
The pooled feature passes a trained 1x1 convolution, batch norm and ReLU; it is matched with the
teacher's pooled feature, and the teacher's frozen classifier on it with the teacher's logits,
both by mean squared error.

The published numbers of the CIFAR-100 tables come from SimKD's code, which adds KD (temperature
4, weight 1), the default here. The paper itself has no such term: ``kd_weight=0``.
"""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from benchmark.methods._batch import need_two
from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.kd import kd_loss
from benchmark.methods.options import MethodOptions


@full_precision
def srrl_loss(
    projected: Tensor, teacher: Tensor, predicted: Tensor, teacher_logits: Tensor
) -> Tensor:
    """Return the squared differences of features [B, D] and of logits [B, K], each a mean."""
    return F.mse_loss(projected, teacher) + F.mse_loss(predicted, teacher_logits)


class Connector(nn.Module):
    """The trained map from the student's pooled feature to the teacher's."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.transfer = nn.Sequential(
            nn.Conv2d(in_features, out_features, 1, bias=False),
            nn.BatchNorm2d(out_features),
            nn.ReLU(),
        )

    def forward(self, pooled: Tensor) -> Tensor:
        """Map [B, D_s] to [B, D_t]."""
        projected: Tensor = self.transfer(pooled[:, :, None, None])
        return projected.flatten(1)


class Options(MethodOptions):
    """Options of SRRL."""

    weight: float = Field(1.0, ge=0, description="weight of the two squared differences")
    kd_weight: float = Field(1.0, ge=0, description="weight of KD on the logits")
    temperature: float = Field(4.0, gt=0, description="temperature of KD")


class SRRL(Method[Options]):
    """Feature and softmax-regression losses on the pooled feature, and KD."""

    teacher_maps = ("pooled",)

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        teacher = setup.need_teacher().features.pooled
        self.srrl = Connector(setup.student.features.pooled.shape[1], teacher.shape[1])

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return both terms, weighted; UserError for a batch of one."""
        need_two("srrl", step.labels)
        options, teacher, head = self.options, step.need_teacher(), step.teacher_head
        assert head is not None
        projected = self.srrl(step.student.pooled)
        predicted = F.linear(projected, head.weight.detach(), head.bias.detach())
        loss = srrl_loss(projected, teacher.pooled, predicted, teacher.logits)
        kd = kd_loss(step.student.logits, teacher.logits, options.temperature)
        return {"features": options.weight * loss, "kd": options.kd_weight * kd}
