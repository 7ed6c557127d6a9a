"""Two-temperature KD: one temperature if the teacher is right, another if it is wrong.

Thesis, algorithm 4. A higher temperature flattens wrong predictions. Its grid is 2, 5 for
right and 10, 20, 50 for wrong ones. That each sample's divergence is multiplied by its own
temperature squared is an assumption (``temperature_squared``).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods._precision import full_precision
from benchmark.methods._thesis import LogBase, is_right, vanilla_divergence
from benchmark.methods.base import Method, Step
from benchmark.methods.options import AlphaOptions


@full_precision
def two_temperature_loss(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    right: float,
    wrong: float,
    squared: bool = True,
    log_base: LogBase = "e",
) -> Tensor:
    """Return the divergence of logits [B, K], each sample at its own temperature."""
    wrongs = torch.full_like(teacher[:, :1], wrong)
    temperature = wrongs.masked_fill(is_right(teacher, labels), right)  # [B, 1]
    teacher_probs = F.softmax(teacher / temperature, dim=1)
    return vanilla_divergence(student, teacher_probs, temperature, squared, log_base)


class Options(AlphaOptions):
    """Both temperatures, and how alpha and they enter."""

    temperature_right: float = Field(2.0, gt=0, description="where the teacher is right")
    temperature_wrong: float = Field(10.0, gt=0, description="where the teacher is wrong")


class TwoTemperatureKD(Method[Options]):
    """KD with a temperature per sample."""

    teacher_maps = ()

    def loss(self, step: Step) -> Tensor:
        """Return the weighted divergence."""
        options = self.options
        divergence = two_temperature_loss(
            step.student.logits,
            step.need_teacher().logits,
            step.labels,
            options.temperature_right,
            options.temperature_wrong,
            options.temperature_squared,
            options.log_base,
        )
        return options.kd_weight * divergence
