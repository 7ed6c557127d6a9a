"""What methods on logits share: the divergence per sample, and masks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def label_mask(logits: Tensor, labels: Tensor) -> Tensor:
    """Return a bool mask [B, K] that is True at each sample's label [B]."""
    mask = torch.zeros_like(logits, dtype=torch.bool)
    return mask.scatter(1, labels.unsqueeze(1), True)


def kl_per_sample(student_log_probs: Tensor, teacher_probs: Tensor) -> Tensor:
    """Return KL(teacher || student) [B] from log-probabilities and probabilities [B, K].

    A teacher probability of zero contributes nothing, however unlikely the student finds it.
    """
    return F.kl_div(student_log_probs, teacher_probs, reduction="none").sum(1)


def kd_per_sample(student: Tensor, teacher: Tensor, temperature: float | Tensor) -> Tensor:
    """Return KL(softmax(teacher / T) || softmax(student / T)) [B], without the factor T^2.

    Logits [B, K]; the temperature is one number or [B, 1].
    """
    student_log_probs = F.log_softmax(student / temperature, dim=1)
    teacher_probs = F.softmax(teacher / temperature, dim=1)
    return kl_per_sample(student_log_probs, teacher_probs)
