"""Knowledge distillation: match the teacher's softened class probabilities.

Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531),
section 2. The defaults, 0.1 CE + 0.9 KD at temperature 4, are those of the CIFAR-100 tables
(CRD, DKD and DHKD print the same KD row). Other published weightings are options: ImageNet
0.5 CE + 0.5 KD at temperature 1 (DKD), 1 + 1 at temperature 4 in all rows of SimKD's and
SemCKD's own tables, 0.9 + 1.0 at temperature 4 as DIST's ImageNet baseline.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from benchmark.methods._logits import kd_per_sample
from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Step
from benchmark.methods.options import MethodOptions


@full_precision
def kd_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(teacher || student), averaged over the batch, of logits [B, K]."""
    return temperature**2 * kd_per_sample(student, teacher, temperature).mean()


class Options(MethodOptions):
    """Weights and temperature."""

    ce_weight: float = Field(0.1, ge=0, description="weight of the cross-entropy on the labels")
    weight: float = Field(0.9, ge=0, description="weight of the distillation term")
    temperature: float = Field(4.0, gt=0, description="divides both networks' logits")


class KD(Method[Options]):
    """KD on the logits."""

    teacher_maps = ()

    def loss(self, step: Step) -> Tensor:
        """Return the weighted divergence from the teacher's softened probabilities."""
        options = self.options
        teacher = step.need_teacher()
        distance = kd_loss(step.student.logits, teacher.logits, options.temperature)
        return options.weight * distance
