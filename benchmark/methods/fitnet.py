"""FitNet hints: regress one intermediate feature map of the teacher.

Romero et al. 2015, "FitNets: Hints for Thin Deep Nets" (arXiv:1412.6550), equation 3.
Deviations, all as in Tian et al. 2020 (CRD, arXiv:1910.10699), which published the numbers
of the CIFAR-100 tables: hints are used together with the labels in one stage instead of as
pretraining, the loss is a mean instead of half a sum, its weight is 100, and the regressor ends
in batch norm and ReLU. The hint is stage 2 of (stem = 0, 1, 2, ...); the codes of SimKD and
SemCKD take stage 1.
"""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.methods._connectors import ConvReg
from benchmark.methods._maps import need_maps
from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Probe, Setup, Step
from benchmark.methods.options import MethodOptions


@full_precision
def hint_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of two maps of equal shape [B, C, H, W]."""
    return F.mse_loss(student, teacher)


class Options(MethodOptions):
    """Options of FitNet."""

    weight: float = Field(100.0, ge=0, description="weight of the hint loss")
    hint_layer: int = Field(2, ge=0, description="stage that gives the hint; the stem is 0")


class FitNet(Method[Options]):
    """The hint loss behind a trained convolutional regressor on the student's side."""

    teacher_maps = ("stages",)

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        teacher = setup.need_teacher()
        need_maps("fitnet", setup.student, teacher)
        self.conv_reg = ConvReg(
            _hint(setup.student, options.hint_layer).shape,
            _hint(teacher, options.hint_layer).shape,
        )

    def loss(self, step: Step) -> Tensor:
        """Return the weighted hint loss."""
        layer = self.options.hint_layer
        regressed = self.conv_reg(step.student.stages[layer])
        return self.options.weight * hint_loss(regressed, step.need_teacher().stages[layer])


def _hint(probe: Probe, layer: int) -> Tensor:
    stages = probe.features.stages
    if layer >= len(stages):
        raise UserError(
            f"fitnet.hint_layer is {layer}, but {probe.name} has stages 0 to {len(stages) - 1}"
        )
    return stages[layer]
