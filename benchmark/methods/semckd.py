"""SemCKD: every stage of the student learns from all stages of the teacher, by attention.

Chen et al. 2021, "Cross-Layer Distillation with Semantic Calibration" (arXiv:2012.03236), section
3. The attention of a sample over the teacher's stages comes from its similarities to the
rest of the batch in each stage: rows of Gram matrices, each through a small network, so that the
number of inputs of those networks is the batch size. If two maps differ in size the larger is
averaged; a bottleneck per pair of stages projects the student's channels.

The authors skip incomplete batches altogether. Here such a batch contributes no SemCKD term, but
still trains on its labels and KD: a recipe that drops incomplete batches is the exact form.
The embedding has a quarter of the batch size in dimensions, at least one (batches under four).

The default adds KD (temperature 4, weight 1) with weight 1 on the labels, as in all published
numbers. CIFAR-100 weight 400; ImageNet (ResNet34 to ResNet18) 50. The networks in the later of
the authors' two codes hold a further, unused branch that never trains; it is left out. A
projector is twice as wide as the teacher's stage, so those of a ResNet50 teacher hold 0.85
billion parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from benchmark.methods._maps import need_maps, pool_to_smaller
from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.kd import kd_loss
from benchmark.methods.options import MethodOptions


@full_precision
def gram(features: Tensor) -> Tensor:
    """Return the similarities [B, B] of the samples of a map [B, C, H, W]: dot products."""
    flat = features.flatten(1)
    return flat @ flat.T


@full_precision
def attention(queries: Tensor, keys: Tensor, softness: float) -> Tensor:
    """Return each sample's weights [B, S, T] over the teacher's stages, summing to 1 over T.

    queries [B, S, E], one a student's stage; keys [B, T, E], one a teacher's.
    """
    return torch.softmax(queries @ keys.transpose(1, 2) / softness, dim=2)


@full_precision
def semckd_loss(
    projected: Sequence[Sequence[Tensor]], teacher: Sequence[Sequence[Tensor]], weights: Tensor
) -> Tensor:
    """Return sum_ij weights_ij * MSE_ij, averaged over the batch and the student's stages.

    ``projected[i][j]`` and ``teacher[i][j]`` are maps of equal shape [B, C, H, W], i over the
    student's stages, j over the teacher's; weights [B, S, T].
    """
    distances = torch.stack(
        [
            torch.stack([(s - t).square().mean((1, 2, 3)) for s, t in zip(*rows, strict=True)], 1)
            for rows in zip(projected, teacher, strict=True)
        ],
        dim=1,
    )  # [B, S, T]
    return (weights * distances).sum() / weights[:, :, 0].numel()


class SimilarityEmbed(nn.Module):
    """Two linear layers and a ReLU between them; the output has unit length."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(in_features, 2 * out_features)
        self.linear2 = nn.Linear(2 * out_features, out_features)

    def forward(self, similarities: Tensor) -> Tensor:
        """Map rows [B, B] to [B, E]."""
        return F.normalize(self.linear2(F.relu(self.linear1(similarities))), dim=1)


def projector(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return the 1x1, 3x3, 1x1 bottleneck of one pair of stages, twice as wide as its output."""
    middle = 2 * out_channels
    return nn.Sequential(
        nn.Conv2d(in_channels, middle, 1, bias=False),
        nn.BatchNorm2d(middle),
        nn.ReLU(),
        nn.Conv2d(middle, middle, 3, padding=1, bias=False),
        nn.BatchNorm2d(middle),
        nn.ReLU(),
        nn.Conv2d(middle, out_channels, 1, bias=False),
    )


class CrossLayer(nn.Module):
    """The attention over the teacher's stages and the projections between all pairs."""

    def __init__(self, student: Sequence[int], teacher: Sequence[int], batch_size: int) -> None:
        super().__init__()
        dim = max(1, batch_size // 4)
        self.queries = nn.ModuleList(SimilarityEmbed(batch_size, dim) for _ in student)
        self.keys = nn.ModuleList(SimilarityEmbed(batch_size, dim) for _ in teacher)
        self.projectors = nn.ModuleList(
            nn.ModuleList(projector(s, t) for t in teacher) for s in student
        )

    def weights(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], softness: float
    ) -> Tensor:
        """Return the attention [B, S, T] for maps [B, C, H, W] of both networks."""
        queries = [embed(gram(s)) for embed, s in zip(self.queries, student, strict=True)]
        keys = [embed(gram(t)) for embed, t in zip(self.keys, teacher, strict=True)]
        return attention(torch.stack(queries, 1), torch.stack(keys, 1), softness)

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], softness: float
    ) -> Tensor:
        """Return the loss, unweighted."""
        projected: list[list[Tensor]] = []
        targets: list[list[Tensor]] = []
        for row, s in zip(self.projectors, student, strict=True):
            assert isinstance(row, nn.ModuleList)
            pairs = [pool_to_smaller(s, t) for t in teacher]
            projected.append([project(x) for project, (x, _) in zip(row, pairs, strict=True)])
            targets.append([target for _, target in pairs])
        return semckd_loss(projected, targets, self.weights(student, teacher, softness))


class Options(MethodOptions):
    """Options of SemCKD."""

    weight: float = Field(400.0, ge=0, description="weight of the cross-layer loss")
    softness: float = Field(1.0, gt=0, description="divides the scores of the attention")
    kd_weight: float = Field(1.0, ge=0, description="weight of KD on the logits")
    temperature: float = Field(4.0, gt=0, description="temperature of KD")


class SemCKD(Method[Options]):
    """The cross-layer loss on all stages but the stems, and KD."""

    relational = True
    teacher_maps = ("stages",)

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        teacher = setup.need_teacher()
        need_maps("semckd", setup.student, teacher)
        student_widths, teacher_widths = (
            [stage.shape[1] for stage in probe.features.stages[1:]]
            for probe in (setup.student, teacher)
        )
        self.batch_size = setup.batch_size
        self.semckd = CrossLayer(student_widths, teacher_widths, setup.batch_size)

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return both terms, weighted; the cross-layer one is zero for an incomplete batch."""
        options, student, teacher = self.options, step.student, step.need_teacher()
        kd = kd_loss(student.logits, teacher.logits, options.temperature)
        terms = {"kd": options.kd_weight * kd}
        if len(step.labels) == self.batch_size:
            loss = self.semckd(student.stages[1:], teacher.stages[1:], options.softness)
            terms["features"] = options.weight * loss
        return terms
