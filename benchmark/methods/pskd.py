"""PS-KD: the network learns from what it said about the image in the epoch before.

Kim et al. 2021, "Self-Knowledge Distillation with Progressive Refinement of Targets"
(arXiv:2006.12000), equations 4 to 6: cross-entropy to (1 - a_t) y + a_t p_{t-1}, with a_t growing
linearly to 0.8. As in lgcnsai/PS-KD-Pytorch@9aa0828 the stored probabilities (temperature 1) are
those of the training pass, in train mode and on augmented images, overwritten as the epoch goes;
before the first epoch they are the labels. The store, one row of K numbers for every training
image, is in the checkpoint.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods._logits import label_mask
from benchmark.methods._peers import soft_cross_entropy
from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions


@full_precision
def pskd_loss(student: Tensor, labels: Tensor, stored: Tensor, alpha: float) -> Tensor:
    """Return the cross-entropy of logits [B, K] to labels refined by stored probabilities."""
    hot = label_mask(student, labels).to(student.dtype)
    return soft_cross_entropy(student, (1 - alpha) * hot + alpha * stored)


class Options(MethodOptions):
    """How far the targets move from the labels."""

    ce_weight: float = Field(0.0, ge=0, description="weight of the CE on the hard labels")
    weight: float = Field(1.0, ge=0, description="weight of the CE on the refined targets")
    final_alpha: float = Field(0.8, ge=0, le=1, description="share of the past in the last epoch")


class PSKD(Method[Options]):
    """Targets refined by the probabilities of the epoch before."""

    keeps_memory = True
    needs_teacher = False

    stored: Tensor

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self.epochs = setup.epochs
        hot = F.one_hot(setup.labels, setup.num_classes).float()
        self.register_buffer("stored", hot)

    def loss(self, step: Step) -> Tensor:
        """Return the weighted refined cross-entropy; keeps what the network says now."""
        options = self.options
        alpha = options.final_alpha * step.epoch / self.epochs
        logits = step.student.logits
        target = self.stored[step.indices].to(logits.dtype)
        value = pskd_loss(logits, step.labels, target, alpha)
        if self.training:
            with torch.no_grad():
                self.stored[step.indices] = logits.detach().float().softmax(1)
        return options.weight * value
