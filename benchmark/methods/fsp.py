"""Flow of the solution procedure (FSP): pretrain the student on how maps relate across stages.

Yim et al. 2017, "A Gift from Knowledge Distillation" (CVPR), equations 1 and 2: the product of
the channels of two consecutive maps, averaged over positions. A first stage trains the
student's body with this loss alone, on all maps from the stem on; the main stage is plain
cross-entropy. As in Tian et al. 2020 (CRD), which published the numbers: 30 epochs at the
recipe's learning rate, a mean over the matrices' entries instead of a squared norm, the larger
of two consecutive maps average-pooled (the paper max-pools).

The method is undefined if the channels of the two networks differ: a UserError names them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.methods._first_stage import body_parameters
from benchmark.methods._maps import need_maps, pool_to_smaller
from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Probe, Setup, Step
from benchmark.methods.options import MethodOptions
from benchmark.models.features import Model


def flows(stages: Sequence[Tensor]) -> list[Tensor]:
    """Return the matrices [B, C_i, C_i+1] of consecutive maps [B, C_i, H_i, W_i]."""
    matrices = []
    for first, second in pairwise(stages):
        first, second = pool_to_smaller(first, second)
        positions = first.shape[2] * first.shape[3]
        matrices.append(torch.bmm(first.flatten(2), second.flatten(2).mT) / positions)
    return matrices


@full_precision
def fsp_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Return the sum over pairs of consecutive stages of the mean squared difference.

    Maps are [B, C, H, W]; channels must be equal stage by stage, sizes may differ.
    """
    pairs = zip(flows(student), flows(teacher), strict=True)
    return torch.stack([F.mse_loss(s, t) for s, t in pairs]).sum()


class Options(MethodOptions):
    """Options of FSP."""

    prepare_epochs: int = Field(30, ge=0, description="epochs of the first stage")


class FSP(Method[Options]):
    """A first stage on the flow between stages; nothing afterwards."""

    teacher_maps = ("stages",)

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        student, teacher = setup.student, setup.need_teacher()
        need_maps("fsp", student, teacher)
        if _channels(student) != _channels(teacher):
            raise UserError(
                "fsp needs equal channels in every stage, but "
                f"{student.name} has {_listed(student)} and {teacher.name} {_listed(teacher)}"
            )

    def loss(self, step: Step) -> Tensor:
        """Return zero: the main stage learns from the labels alone."""
        return step.student.logits.new_zeros(())

    @property
    def prepare_epochs(self) -> int:
        """Epochs of the first stage."""
        return self.options.prepare_epochs

    def prepare_parameters(self, student: Model) -> Sequence[nn.Parameter]:
        """Return the student's parameters, its classifier excepted."""
        return body_parameters(student)

    def prepare_loss(self, step: Step) -> Tensor:
        """Return the flow loss."""
        return fsp_loss(step.student.stages, step.need_teacher().stages)


def _channels(probe: Probe) -> list[int]:
    return [stage.shape[1] for stage in probe.features.stages]


def _listed(probe: Probe) -> str:
    return ", ".join(str(channels) for channels in _channels(probe))
