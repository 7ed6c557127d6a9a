"""Factor transfer (FT): the student imitates a compressed paraphrase of the teacher's map.

Kim et al. 2018, "Paraphrasing Complex Network: Network Compression via Factor Transfer"
(arXiv:1802.04977), equations 1 to 3. First stage: a paraphraser, an autoencoder without batch
norm, learns to reconstruct the teacher's last map. Main stage: a translator, trained with the
student, maps the student's last map to the paraphraser's factors, of half the teacher's
channels; the paraphraser stays fixed.

Everything the paper leaves open is as in Tian et al. 2020 (CRD), which published the numbers:
30 epochs of the first stage (learning rate 0.01 for CIFAR ResNets and wide ResNets as students,
the recipe's own otherwise), factors reduced to the mean of squares over channels before they
are normalised (the paper normalises them whole), weight 200. If the two last maps differ in
size the larger one's factors are average-pooled.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from benchmark.methods._maps import need_maps, pool_to_smaller
from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions
from benchmark.models.features import Model

SLOPE = 0.1
# Students whose paraphraser the published code trains at 0.01 instead of the main rate.
SLOW_STUDENTS = re.compile(r"resnet(8|14|20|32|44|56|110|8x4|32x4)|wrn_(16|40)_[12]")


def factor(features: Tensor, power: float = 2.0) -> Tensor:
    """Return the mean of powers over channels [B, H * W] of [B, C, H, W], of unit length."""
    return F.normalize(features.abs().pow(power).mean(1).flatten(1), dim=1)


@full_precision
def ft_loss(
    student: Tensor, teacher: Tensor, power: float = 2.0, distance_power: float = 1.0
) -> Tensor:
    """Return the mean |difference|^distance_power of two factors, maps [B, C, H, W]."""
    student, teacher = pool_to_smaller(student, teacher)
    return (factor(student, power) - factor(teacher, power)).abs().pow(distance_power).mean()


@full_precision
def reconstruction_loss(reconstructed: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared error of the paraphraser, maps of equal shape."""
    return F.mse_loss(reconstructed, teacher)


def layers(*convolutions: nn.Conv2d | nn.ConvTranspose2d, norm: bool) -> nn.Sequential:
    """Return convolutions, each followed by batch norm where ``norm`` and by a leaky ReLU."""
    sequence: list[nn.Module] = []
    for convolution in convolutions:
        # The identity keeps the published parameter names, which count by threes.
        between = nn.BatchNorm2d(convolution.out_channels) if norm else nn.Identity()
        sequence += [convolution, between, nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*sequence)


class Paraphraser(nn.Module):
    """An autoencoder over channels of a [B, C, H, W] map, to ``factors`` channels and back."""

    def __init__(self, channels: int, factors: int) -> None:
        super().__init__()
        self.encoder = layers(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.Conv2d(channels, factors, 3, padding=1),
            nn.Conv2d(factors, factors, 3, padding=1),
            norm=False,
        )
        self.decoder = layers(
            nn.ConvTranspose2d(factors, factors, 3, padding=1),
            nn.ConvTranspose2d(factors, channels, 3, padding=1),
            nn.ConvTranspose2d(channels, channels, 3, padding=1),
            norm=False,
        )

    def forward(self, teacher: Tensor) -> Tensor:
        """Reconstruct a map [B, C, H, W]."""
        reconstructed: Tensor = self.decoder(self.encoder(teacher))
        return reconstructed


class Translator(nn.Module):
    """Three convolutions with batch norm from the student's channels to the factors'."""

    def __init__(self, channels: int, factors: int) -> None:
        super().__init__()
        self.encoder = layers(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.Conv2d(channels, factors, 3, padding=1),
            nn.Conv2d(factors, factors, 3, padding=1),
            norm=True,
        )

    def forward(self, student: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, factors, H, W]."""
        factors: Tensor = self.encoder(student)
        return factors


class Options(MethodOptions):
    """Options of factor transfer."""

    weight: float = Field(200.0, ge=0, description="weight of the factor loss")
    ratio: float = Field(0.5, gt=0, le=1, description="factors per channel of the teacher")
    power: float = Field(2.0, ge=1, description="power of the factors before their mean")
    distance_power: float = Field(1.0, ge=1, description="power of the factors' distance")
    prepare_epochs: int = Field(30, ge=0, description="epochs of the paraphraser's training")
    prepare_lr: float | None = Field(
        None, gt=0, description="its learning rate; by default the published code's rule"
    )


class FT(Method[Options]):
    """Factor transfer of the last stage, behind a paraphraser trained first."""

    teacher_maps = ("stages",)
    prepare_student = False

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        teacher = setup.need_teacher()
        need_maps("ft", setup.student, teacher)
        channels = teacher.features.stages[-1].shape[1]
        factors = max(int(channels * options.ratio), 1)
        self.translator = Translator(setup.student.features.stages[-1].shape[1], factors)
        # Trainable in the first stage only, so that the main optimiser never takes it.
        self.paraphraser = Paraphraser(channels, factors).requires_grad_(False)
        self._slow_student = SLOW_STUDENTS.fullmatch(setup.student.name) is not None

    def loss(self, step: Step) -> Tensor:
        """Return the weighted factor loss."""
        options = self.options
        student = self.translator(step.student.stages[-1])
        with torch.no_grad():
            teacher = self.paraphraser.encoder(step.need_teacher().stages[-1])
        return options.weight * ft_loss(student, teacher, options.power, options.distance_power)

    @property
    def prepare_epochs(self) -> int:
        """Epochs of the paraphraser's training."""
        return self.options.prepare_epochs

    def prepare_lr(self, lr: float) -> float:
        """Return the paraphraser's learning rate."""
        if self.options.prepare_lr is not None:
            return self.options.prepare_lr
        return 0.01 if self._slow_student else lr

    def prepare_parameters(self, student: Model) -> Sequence[nn.Parameter]:
        """Return the paraphraser's parameters, made trainable."""
        return list(self.paraphraser.requires_grad_(True).parameters())

    def prepare_loss(self, step: Step) -> Tensor:
        """Return the paraphraser's reconstruction error."""
        teacher = step.need_teacher().stages[-1]
        return reconstruction_loss(self.paraphraser(teacher), teacher)

    def prepared(self) -> None:
        """Fix the paraphraser."""
        self.paraphraser.requires_grad_(False)
