"""Earth Mover KD: if the teacher is wrong, its smallest probabilities move to the label.

Thesis, algorithm 3. In ascending order, class by class, each softened probability is added to
the label's until the label's exceeds the largest; KD then uses the changed probabilities.
Samples that the teacher gets right stay as they are.

Where the thesis is ambiguous: whether the moved mass leaves its class (``mass``; if it stays,
probabilities sum to more than 1, and the printed 6.98 % of one pair hints at a collapse), and
what KD receives (``passes``): the changed probabilities as the text has it, the teacher's
unchanged logits as the box prints it (then this is Vanilla KD), or the changed probabilities
in the place of logits, softened once more.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods._logits import label_mask
from benchmark.methods._precision import full_precision
from benchmark.methods._thesis import LogBase, is_right, label_values, vanilla_divergence, walked
from benchmark.methods.base import Method, Step
from benchmark.methods.options import AlphaOptions

Mass = Literal["moves", "stays"]
Passes = Literal["probabilities", "unchanged_logits", "as_logits"]


def moved_probabilities(probs: Tensor, labels: Tensor, mass: Mass = "moves") -> Tensor:
    """Return probabilities [B, K] whose label leads, filled up from the smallest classes."""
    label = label_mask(probs, labels)
    missing = probs.amax(1, keepdim=True) - label_values(probs, labels)
    taken = walked(probs, probs, label, missing, undo_last=False) & ~is_right(probs, labels)
    added = probs.masked_fill(~taken, 0.0).sum(1, keepdim=True)
    remaining = probs.masked_fill(taken, 0.0) if mass == "moves" else probs
    return remaining + added * label


@full_precision
def earth_mover_loss(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    temperature: float,
    mass: Mass = "moves",
    passes: Passes = "probabilities",
    squared: bool = True,
    log_base: LogBase = "e",
) -> Tensor:
    """Return the divergence of logits [B, K] from the corrected teacher."""
    teacher_probs = F.softmax(teacher / temperature, dim=1)
    if passes != "unchanged_logits":
        moved = moved_probabilities(teacher_probs, labels, mass)
        if passes == "as_logits":
            moved = F.softmax(moved / temperature, dim=1)
        teacher_probs = teacher_probs.where(is_right(teacher, labels), moved)
    return vanilla_divergence(student, teacher_probs, temperature, squared, log_base)


class Options(AlphaOptions):
    """Temperature, the readings of the box, and how alpha enters."""

    temperature: float = Field(2.0, gt=0, description="divides both networks' logits")
    mass: Literal["moves", "stays"] = Field(
        "moves", description="whether the added mass leaves the class it comes from"
    )
    passes: Literal["probabilities", "unchanged_logits", "as_logits"] = Field(
        "probabilities", description="what KD receives of the teacher"
    )


class EarthMoverKD(Method[Options]):
    """KD from a teacher whose wrong predictions were moved to the label."""

    teacher_maps = ()

    def loss(self, step: Step) -> Tensor:
        """Return the weighted divergence."""
        options = self.options
        divergence = earth_mover_loss(
            step.student.logits,
            step.need_teacher().logits,
            step.labels,
            options.temperature,
            options.mass,
            options.passes,
            options.temperature_squared,
            options.log_base,
        )
        return options.kd_weight * divergence
