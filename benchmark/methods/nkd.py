"""NKD: the target's probability and the others' distribution, each normalised.

Yang et al. 2023, "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach
with Normalized Loss and Customized Soft Labels" (arXiv:2303.13005), equation 7, as
yzd-v/cls_KD@1e5d48f (nkd.py): -p_t log p_s of the target at temperature 1, and gamma T^2 times
the cross-entropy of the other classes' softmaxes at temperature T. gamma is 1.5 for CNNs and 1
for DeiT on ImageNet. If images are mixed the larger share's class is the target, as there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods._logits import label_mask
from benchmark.methods._precision import full_precision
from benchmark.methods._thesis import label_values
from benchmark.methods.base import Method, Step
from benchmark.methods.options import MethodOptions


@full_precision
def nkd_losses(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the target and the non-target term [2] of logits [B, K], without gamma."""
    sure = label_values(F.softmax(teacher, 1), labels)
    target = -(sure * label_values(F.log_softmax(student, 1), labels)).mean()
    # Masked, not picked: to index by a mask waits for the device to count what it picks.
    label = label_mask(student, labels)
    own = F.log_softmax(student.masked_fill(label, -torch.inf) / temperature, 1)
    theirs = F.softmax(teacher.masked_fill(label, -torch.inf) / temperature, 1)
    non_target = -(theirs * own.masked_fill(label, 0.0)).sum(1).mean() * temperature**2
    return torch.stack([target, non_target])


class Options(MethodOptions):
    """Weights and temperature."""

    ce_weight: float = Field(1.0, ge=0, description="weight of the cross-entropy on the labels")
    gamma: float = Field(1.5, ge=0, description="weight of the other classes' term")
    temperature: float = Field(1.0, gt=0, description="divides the other classes' logits")


class NKD(Method[Options]):
    """Normalised knowledge distillation on the logits."""

    teacher_maps = ()

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return both terms, weighted."""
        teacher = step.need_teacher().logits
        target, others = nkd_losses(
            step.student.logits, teacher, step.labels, self.options.temperature
        ).unbind()
        return {"target": target, "non_target": self.options.gamma * others}
