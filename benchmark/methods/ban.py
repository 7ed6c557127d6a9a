"""Born-again networks: a generation learns from the one before, of the same architecture.

Furlanello et al. 2018, "Born-Again Neural Networks" (arXiv:1805.04770), section 3: KD at
temperature 1 from the previous generation, with the labels (BAN + L, the default) or without them
(``ce_weight: 0``). A generation is a run: a column whose teacher has the student's architecture,
and for later ones a distilled teacher (``teacher.distilled`` of a table). Which weight the labels
have is not stated; 1 is assumed. Their ensembles of generations and the variants with permuted or
weighted answers (DKPP, CWTM) are not here.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from benchmark.methods.base import Method, Step
from benchmark.methods.kd import kd_loss
from benchmark.methods.options import MethodOptions


class Options(MethodOptions):
    """Weights and temperature."""

    ce_weight: float = Field(1.0, ge=0, description="weight of the cross-entropy on the labels")
    weight: float = Field(1.0, ge=0, description="weight of the previous generation's answers")
    temperature: float = Field(1.0, gt=0, description="divides both networks' logits")


class BAN(Method[Options]):
    """KD from the previous generation."""

    teacher_maps = ()

    def loss(self, step: Step) -> Tensor:
        """Return the weighted divergence from the previous generation."""
        options = self.options
        teacher = step.need_teacher().logits
        return options.weight * kd_loss(step.student.logits, teacher, options.temperature)
