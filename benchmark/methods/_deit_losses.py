"""The losses of DeiT's two heads: labels for one, a teacher for the other.

Touvron et al. 2021, "Training data-efficient image transformers & distillation through attention"
(arXiv:2012.12877), section 4: the class head has the labels (mixed and smoothed where the recipe
mixes), the distillation head the teacher's decision on the same mixed image (``hard``), or its
softened probabilities (``soft``). At test time both heads are averaged.

As facebookresearch/deit (losses.py): (1 - alpha) CE + alpha D; the soft term is tau^2 KL summed
and divided by batch * classes, deliberately (its issues 61 and 116); ``per_class: false`` divides
by the batch alone, as timm's own task does, which is classes times larger. No smoothing in the
second term. timm's distilled networks give the mean of both heads in train mode, too, so whoever
uses these takes the heads apart first.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from benchmark.methods._precision import full_precision


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


@full_precision
def label_loss(student: Tensor, targets: Tensor | None, labels: Tensor, smoothing: float) -> Tensor:
    """Return the cross-entropy of the class head to mixed targets, or to smoothed labels."""
    if targets is not None:
        return F.cross_entropy(student, targets.to(student.dtype))
    return F.cross_entropy(student, labels, label_smoothing=smoothing)
