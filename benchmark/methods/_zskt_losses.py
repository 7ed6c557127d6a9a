"""Zero-shot transfer: the generator, and the divergence that it and the student fight over.

See zskt.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.methods._precision import full_precision


class View(nn.Module):
    """Reshapes vectors to maps of a fixed shape."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, values: Tensor) -> Tensor:
        """Return [B, *shape]."""
        return values.view(-1, *self.shape)


def make_generator(noise: int, image_shape: tuple[int, int, int]) -> nn.Sequential:
    """Return the generator from [B, noise] to images: the last batch norm gives their scale.

    Sides must be divisible by 4; no tanh.
    """
    channels, height, width = image_shape
    rows, columns = height // 4, width // 4
    return nn.Sequential(
        nn.Linear(noise, 128 * rows * columns),
        View(128, rows, columns),
        nn.BatchNorm2d(128),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(128, 128, 3, padding=1),
        nn.BatchNorm2d(128),
        nn.LeakyReLU(0.2),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(128, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
    )


@full_precision
def disagreement(student: Tensor, teacher: Tensor) -> Tensor:
    """Return KL(teacher || student) of logits [B, K], divided by B * K; gradient into both.

    The division by the number of classes is the published code's mean over all entries.
    """
    log_teacher, log_student = F.log_softmax(teacher, 1), F.log_softmax(student, 1)
    return (log_teacher.exp() * (log_teacher - log_student)).mean()


def attention_map(maps: Tensor) -> Tensor:
    """Return the unit vector [B, H * W] of the mean of squares over channels of [B, C, H, W]."""
    return F.normalize(maps.square().mean(1).flatten(1), dim=1)


@full_precision
def attention_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Return the sum over stages of the mean squared difference of attention maps."""
    parts = [
        (attention_map(s) - attention_map(t)).square().mean()
        for s, t in zip(student, teacher, strict=True)
    ]
    return torch.stack(parts).sum()
