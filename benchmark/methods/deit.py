"""DeiT's distillation: one head for the labels, one for the teacher, hard or soft.

Touvron et al. 2021, "Training data-efficient image transformers & distillation through attention"
(arXiv:2012.12877), section 4: the class head has the labels (mixed and smoothed if the recipe
mixes), the distillation head the teacher's decision on the same mixed image (``hard``), or its
softened probabilities (``soft``). At test time both heads are averaged.

As facebookresearch/deit@7e160fe (losses.py): (1 - alpha) CE + alpha D; the soft term is tau^2 KL
summed and divided by batch * classes, deliberately (its issues 61 and 116); ``per_class: false``
divides by the batch alone, as timm's own task does, which is classes times larger. No smoothing
in the second term. timm's distilled networks give the mean of both heads in train mode, too; here
the heads are told apart, as its ``set_distilled_training`` does.

A student without a second head gets one beside its classifier, which is no part of DeiT.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods._heads import Heads
from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions
from benchmark.models.features import Features


@full_precision
def hard_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the cross-entropy of the distillation head [B, K] to the teacher's decision."""
    return F.cross_entropy(student, teacher.argmax(1))


@full_precision
def soft_loss(student: Tensor, teacher: Tensor, tau: float, per_class: bool = True) -> Tensor:
    """Return tau^2 KL(teacher || student) of logits [B, K], by batch and, by default, classes."""
    divergence = F.kl_div(
        F.log_softmax(student / tau, 1),
        F.log_softmax(teacher / tau, 1),
        reduction="sum",
        log_target=True,
    )
    count = student.numel() if per_class else len(student)
    return divergence * tau**2 / count


class Options(MethodOptions):
    """Which targets the teacher gives, and how much they count."""

    kind: Literal["hard", "soft"] = Field("hard", description="the teacher's decision, or softened")
    alpha: float = Field(0.5, ge=0, le=1, description="the teacher's weight; the labels' is 1 - it")
    tau: float = Field(1.0, gt=0, description="divides the logits of the soft term")
    per_class: bool = Field(True, description="divide the soft term by the number of classes, too")

    @property
    def ce_weight(self) -> float:
        """The weight of the cross-entropy on the labels."""
        return 1.0 - self.alpha


class DeiT(Method[Options]):
    """The labels for the class head, the teacher for the distillation head."""

    teacher_maps = ()

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self.heads = Heads("deit", setup, 2)

    def forward(self, step: Step) -> tuple[Tensor, Tensor]:
        """Return the weighted term of the distillation head, and the class head's logits."""
        options, teacher = self.options, step.need_teacher().logits
        labelled, distilled = self.heads(step.student)
        if options.kind == "hard":
            distance = hard_loss(distilled, teacher)
        else:
            distance = soft_loss(distilled, teacher, options.tau, options.per_class)
        return options.alpha * distance, labelled

    def predict(self, student: Features) -> Tensor:
        """Return the mean of both heads."""
        return self.heads.mean(student)
