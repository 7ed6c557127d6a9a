"""Spherical KD: both networks' logits are brought to one common norm before the softmax.

Guo et al. 2020, "Reducing the Teacher-Student Gap via Spherical Knowledge Distillation"
(arXiv:2010.07485), as the thesis states it (SKD, equations 24 to 28, algorithm 2): each
sample's logits are divided by their own norm and multiplied by the batch's mean teacher norm.

Where the thesis is ambiguous: equations 24 and 25 print squared norms as divisors
(``norm``: squared) and algorithm 2 leaves the normalisation out (none); equation 28's
cross-entropy takes the normalised student, algorithm 2's the plain one (``ce_on``); both put
alpha on the divergence and print no temperature squared, so those two defaults differ from
the thesis' other methods.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods._precision import full_precision
from benchmark.methods._thesis import LogBase, vanilla_divergence
from benchmark.methods.base import Method, Step
from benchmark.methods.options import AlphaOptions

Norm = Literal["plain", "squared", "none"]

EPSILON = 1e-12


def on_sphere(logits: Tensor, radius: Tensor, norm: Norm = "plain") -> Tensor:
    """Return logits [B, K] divided by their norms (or squared norms) and times ``radius``.

    All-zero logits stay zero.
    """
    if norm == "none":
        return logits
    length: Tensor = torch.linalg.vector_norm(logits, dim=1, keepdim=True)
    divisor = length.square() if norm == "squared" else length
    return logits / divisor.clamp_min(EPSILON) * radius


def mean_norm(logits: Tensor) -> Tensor:
    """Return the mean over the batch of the norms of logits [B, K], a scalar."""
    mean: Tensor = torch.linalg.vector_norm(logits, dim=1).mean()
    return mean


@full_precision
def spherical_loss(
    student: Tensor,
    teacher: Tensor,
    temperature: float,
    norm: Norm = "plain",
    squared: bool = False,
    log_base: LogBase = "e",
) -> Tensor:
    """Return the divergence between both networks' normalised logits [B, K]."""
    radius = mean_norm(teacher)
    teacher_probs = F.softmax(on_sphere(teacher, radius, norm) / temperature, dim=1)
    normalised = on_sphere(student, radius, norm)
    return vanilla_divergence(normalised, teacher_probs, temperature, squared, log_base)


@full_precision
def spherical_cross_entropy(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    norm: Norm = "plain",
) -> Tensor:
    """Return the cross-entropy of the normalised student logits (equation 28)."""
    return F.cross_entropy(on_sphere(student, mean_norm(teacher), norm), labels)


class Options(AlphaOptions):
    """Temperature, normalisation, and how alpha enters."""

    alpha_on: Literal["ce", "kd"] = Field("kd", description="which term alpha weights")
    temperature_squared: bool = Field(
        False, description="multiply the divergence by temperature squared"
    )
    temperature: float = Field(2.0, gt=0, description="divides both networks' normalised logits")
    norm: Literal["plain", "squared", "none"] = Field(
        "plain", description="what divides the logits: their l2 norm, its square, nothing"
    )
    ce_on: Literal["plain", "normalised"] = Field(
        "plain", description="the student logits that the cross-entropy sees"
    )

    @property
    def ce_weight(self) -> float:
        """The weight of the cross-entropy on the plain logits: 0 if it sees normalised ones."""
        return self.own_ce_weight if self.ce_on == "plain" else 0.0

    @property
    def own_ce_weight(self) -> float:
        """The weight of the cross-entropy, whichever logits it sees."""
        return self.alpha if self.alpha_on == "ce" else 1.0 - self.alpha


class SphericalKD(Method[Options]):
    """KD between logits of one norm."""

    teacher_maps = ()

    def loss(self, step: Step) -> Tensor | dict[str, Tensor]:
        """Return the weighted divergence, and the cross-entropy if it is normalised."""
        options = self.options
        student, teacher = step.student.logits, step.need_teacher().logits
        divergence = options.kd_weight * spherical_loss(
            student,
            teacher,
            options.temperature,
            options.norm,
            options.temperature_squared,
            options.log_base,
        )
        if options.ce_on == "plain":
            return divergence
        ce = spherical_cross_entropy(student, teacher, step.labels, options.norm)
        return {"divergence": divergence, "spherical_ce": options.own_ce_weight * ce}
