"""CS-KD: what the network says of another image of the class is the target for this one.

Yun et al. 2020, "Regularizing Class-wise Predictions via Self-knowledge Distillation"
(arXiv:2003.13964), equation 2: CE + lambda T^2 KL(partner || image), temperature 4 and lambda 1.
The partner is a random image of the same class, augmented on its own (it may be the image itself).
As in alinlab/cs-kd@b447f25 its pass is in train mode without gradient, so it moves batch
statistics. There each class stands twice in a batch of pairs drawn by the sampler; here every
image of the usual batch gets its partner.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from benchmark.methods._self_losses import partner_loss
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions


class Options(MethodOptions):
    """Weight and temperature of the partner's answers."""

    weight: float = Field(1.0, ge=0, description="weight of the divergence from the partner")
    temperature: float = Field(4.0, gt=0, description="divides the logits of both images")


class CSKD(Method[Options]):
    """Consistency with a partner of the same class."""

    needs_teacher = False
    companions = (("class", 1),)

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self._student = (setup.student.model,)

    def loss(self, step: Step) -> Tensor:
        """Return the weighted divergence from the partner's answers."""
        options = self.options
        with torch.no_grad():
            partner = step.run(self._student[0], step.companions[0].images).logits
        value = partner_loss(step.student.logits, partner, options.temperature)
        return options.weight * value
