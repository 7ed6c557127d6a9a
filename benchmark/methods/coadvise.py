"""Co-advising: a head and a token for each of several teachers of different inductive bias.

Ren et al. 2022, "Co-advise: Cross Inductive Bias Distillation" (arXiv:2106.12378); CivT is a DeiT
that is taught by a convolutional and an involution network. As OliverRensu/co-advise@8049918
(main.py): the cross-entropy of the class head plus, for each teacher, T^2 KL(teacher || its head)
with weight 1 and temperature 1 (the paper has weights and temperatures; their values were not
seen). At test time all heads are averaged.

The teachers are one network with a head each (``regnety040_rednet101``); a teacher of one head
teaches one head. A student without further heads gets them beside its classifier, which is no
part of co-advising.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from benchmark.methods._heads import Heads
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.kd import kd_loss
from benchmark.methods.options import MethodOptions
from benchmark.models.features import Features


class Options(MethodOptions):
    """One weight and temperature for all teachers."""

    ce_weight: float = Field(1.0, ge=0, description="weight of the cross-entropy on the labels")
    weight: float = Field(1.0, ge=0, description="weight of each teacher's divergence")
    temperature: float = Field(1.0, gt=0, description="divides the logits of the divergences")


class CoAdvise(Method[Options]):
    """The labels for the first head, a teacher for each of the others."""

    teacher_maps = ("heads",)

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        teachers = len(setup.need_teacher().features.heads) or 1
        self.heads = Heads("coadvise", setup, 1 + teachers)

    def forward(self, step: Step) -> tuple[dict[str, Tensor], Tensor]:
        """Return each teacher's weighted term, and the logits of the labels' head."""
        options, teacher = self.options, step.need_teacher()
        labelled, *advised = self.heads(step.student)
        advisors = teacher.heads or (teacher.logits,)
        terms = {
            f"advisor{number}": options.weight * kd_loss(own, advice, options.temperature)
            for number, (own, advice) in enumerate(zip(advised, advisors, strict=True), start=1)
        }
        return terms, labelled

    def predict(self, student: Features) -> Tensor:
        """Return the mean of all heads."""
        return self.heads.mean(student)
