"""The projector paper's distillation of transformers: labels, logits and patch tokens apart.

Miles and Mikolajczyk 2024, "Understanding the Role of the Projector in Knowledge Distillation"
(arXiv:2303.11098), as roymiles/Simple-Recipe-Distillation@31e8477, deit/: the class head has the
labels, KL at temperature 1 teaches the distillation head, and the mean of the patch tokens behind
the last norm is projected to the teacher's width and compared with the teacher's pooled vector,
both normalised over the batch without learnt scales. At test time both heads are averaged.

The distance is not the paper's LogSum but log(sum_d |c_d - 1|^4 + 1e-5), c_d the batch mean of
the product of both sides' dimension d; ``distance: logsum`` is the paper's, log(sum over batch
and dimensions of |s - t|^4). The exponent is 4 whatever the release's ``alpha`` says, and so here.

What the release gets wrong is not imitated: it writes eps 0 into its batch norms, which torch
refuses in training (1e-30 gives the same numbers, and 0 for a dimension without variance); trains
the cross-entropy on a name that does not exist (the class head is meant, as the author's VkD
has it); fixes the student's width at the tiny network's; and clips gradients that a loss scale
multiplies. It computes the distance in half precision, here it is in full.

A student without a second head gets one beside its classifier, one without patch tokens gives its
pooled vector; neither is part of the paper.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from benchmark.methods._batch import need_two
from benchmark.methods._heads import Heads
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.kd import kd_loss
from benchmark.methods.options import MethodOptions
from benchmark.methods.projector import correlation_distance, logsum_distance, normalised
from benchmark.models.features import Features

EXPONENT = 4.0


class Options(MethodOptions):
    """Options of the transformers' recipe."""

    ce_weight: float = Field(1.0, ge=0, description="weight of the cross-entropy on the labels")
    weight: float = Field(1.0, ge=0, description="weight of the distance")
    kd_weight: float = Field(1.0, ge=0, description="weight of KL on the distillation head")
    temperature: float = Field(1.0, gt=0, description="temperature of KL on the distillation head")
    distance: Literal["correlation", "logsum"] = Field(
        "correlation", description="distance of the sides: the released one, or the paper's"
    )
    norm_eps: float = Field(1e-30, gt=0, description="added to the variance in the batch norm")
    log_eps: float = Field(1e-5, ge=0, description="added inside the logarithm")


class ProjectorDeiT(Method[Options]):
    """A projected mean of patch tokens, a distillation head, and a head for the labels."""

    relational = True
    teacher_maps = ("pooled",)

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self.heads = Heads("projector_deit", setup, 2)
        width = mean_patch(setup.student.features).shape[1]
        self.embed = nn.Linear(width, setup.need_teacher().features.pooled.shape[1])

    def forward(self, step: Step) -> tuple[dict[str, Tensor], Tensor]:
        """Return both terms, weighted, and the class head's logits.

        Raises UserError for a batch of one, which has no variance.
        """
        need_two("projector_deit", step.labels)
        options, teacher = self.options, step.need_teacher()
        labelled, distilled = self.heads(step.student)
        s = normalised(self.embed(mean_patch(step.student)), "batch", options.norm_eps)
        t = normalised(teacher.pooled, "batch", options.norm_eps)
        measure = correlation_distance if options.distance == "correlation" else logsum_distance
        distance = measure(s, t, EXPONENT, options.log_eps)
        kd = kd_loss(distilled, teacher.logits, options.temperature)
        return {"distance": options.weight * distance, "kd": options.kd_weight * kd}, labelled

    def predict(self, student: Features) -> Tensor:
        """Return the mean of both heads."""
        return self.heads.mean(student)

    def projections(self, student: Features) -> dict[str, tuple[Tensor, nn.Module]]:
        """Return the projector with what it is given."""
        return {"embed": (mean_patch(student), self.embed)}


def mean_patch(features: Features) -> Tensor:
    """Return the mean of the patch tokens behind the last norm [B, D], or the pooled vector."""
    return features.pooled if features.patches is None else features.patches.mean(1)
