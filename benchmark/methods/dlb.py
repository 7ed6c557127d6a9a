"""DLB: the network learns from what it said of the last batch one step ago.

Shen et al. 2022, "Self-Distillation from the Last Mini-Batch for Consistency Regularization"
(arXiv:2203.16172), equations 3 to 5: every step sees this batch and the last one again, in another
view; labels on both, and alpha T^2 KL from the logits of the step before, alpha 1 and temperature
3. As in Meta-knowledge-Lab/DLB@8949a46 the chain goes on across epochs. Both batches go through the
network one after the other here, with batch statistics of their own; there in one pass.

The last step's logits are the method's state; which images they belong to follows from the order of
the batches.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods._self_losses import joint_labels_loss, partner_loss
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions


class Options(MethodOptions):
    """Weight and temperature of the last step's answers."""

    ce_weight: float = Field(0.0, ge=0, description="weight of this batch's labels once more")
    weight: float = Field(1.0, ge=0, description="weight of the divergence from the last step")
    temperature: float = Field(3.0, gt=0, description="divides the logits of both steps")


class DLB(Method[Options]):
    """The last batch again, taught by what was said of it."""

    keeps_memory = True
    needs_teacher = False
    companions = (("previous", 1),)

    said: Tensor

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self._student = (setup.student.model,)
        self.register_buffer("said", torch.zeros(setup.batch_size, setup.num_classes))

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return the labels of both batches and the weighted divergence from the last step."""
        options, logits = self.options, step.student.logits
        last = step.companions[0]
        count = len(last.labels)
        if count:
            past = step.run(self._student[0], last.images).logits
            target = self.said[:count].clone()
            value = partner_loss(past, target.to(past.dtype), options.temperature)
            labels = joint_labels_loss(logits, step.labels, past, last.labels)
            found = {"labels": labels, "last_step": options.weight * value}
        else:  # the very first step has none before it
            found = {"labels": F.cross_entropy(logits, step.labels)}
        if self.training:
            with torch.no_grad():
                self.said[: len(logits)] = logits.detach().float()
        return found
