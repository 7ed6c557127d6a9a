"""SimKD: project the student's last map onto the teacher's and reuse the teacher's classifier.

Chen et al. 2022, "Knowledge Distillation with the Reused Teacher Classifier" (arXiv:2203.14001),
equation 3. The student is trained by the feature loss alone (no cross-entropy, no KD), and
what is evaluated is the teacher's classifier, frozen, on the projected and pooled map. The
projector is a part of the deployed network.

Maps: the teacher's is the one that its classifier sees the mean of. The authors' code takes the
last stage, which is the same in the ResNets and VGGs that it was used with; in wide ResNets that
stage is raw, and what follows the last batch norm and ReLU is taken here, from both networks.
The student's is otherwise its last stage, as in the authors' code: in MobileNetV2 and
ShuffleNetV2 the one before their last 1x1 convolution, which is then unused.

The student's own logits enter with weight zero, as in the authors' code: the classifier that
nobody uses gets a gradient of zero and so decays, instead of staying where it was.
"""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from benchmark.methods._batch import need_two
from benchmark.methods._last_map import last_map, need_last_map
from benchmark.methods._maps import need_maps
from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Setup, Step, Terms
from benchmark.methods.options import MethodOptions
from benchmark.models.features import Features


@full_precision
def simkd_loss(projected: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of a projected map and the teacher's [B, C, H, W].

    The teacher's is averaged to the size of the other if it is larger.
    """
    if teacher.shape[2:] != projected.shape[2:]:
        teacher = F.adaptive_avg_pool2d(teacher, (projected.shape[2], projected.shape[3]))
    return F.mse_loss(projected, teacher)


def pooled_to(student: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the student's map [B, C, H, W], averaged to the teacher's size where larger."""
    return F.adaptive_avg_pool2d(student, size) if student.shape[2] > size[0] else student


class MapProjector(nn.Module):
    """A bottleneck of 1x1, 3x3 and 1x1 convolutions, each with batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, factor: int) -> None:
        super().__init__()
        middle = max(1, out_channels // factor)
        self.transfer = nn.Sequential(
            nn.Conv2d(in_channels, middle, 1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, middle, 3, padding=1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C_s, H, W] to [B, C_t, H, W]."""
        projected: Tensor = self.transfer(x)
        return projected


class Options(MethodOptions):
    """Options of SimKD."""

    ce_weight: float = Field(0.0, ge=0, description="weight of the cross-entropy on the labels")
    weight: float = Field(1.0, ge=0, description="weight of the feature loss")
    factor: int = Field(2, gt=0, description="the projector's middle is the teacher's width / this")


class SimKD(Method[Options]):
    """The feature loss behind a trained projector, and predictions by the teacher's classifier."""

    teacher_maps = ("last_map",)

    head_weight: Tensor
    head_bias: Tensor

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        teacher = setup.need_teacher()
        need_maps("simkd", setup.student)
        need_last_map("simkd", teacher)
        target = last_map(teacher.features)
        self._size = (target.shape[2], target.shape[3])
        source = _student_map(setup.student.features)
        self.simkd = MapProjector(source.shape[1], target.shape[1], options.factor)
        head = teacher.model.head
        self.register_buffer("head_weight", head.weight.detach().clone())
        self.register_buffer("head_bias", head.bias.detach().clone())

    def forward(self, step: Step) -> tuple[Terms, Tensor]:
        """Return the weighted feature loss, and the logits of the same pass of the projector.

        Raises UserError for a batch of one on a 1x1 map.
        """
        source = self._source(step.student)
        if self.training and source.shape[2:].numel() == 1:
            need_two("simkd", source)
        projected: Tensor = self.simkd(source)
        logits = self._classified(projected)
        loss = simkd_loss(projected, last_map(step.need_teacher()))
        return self.options.weight * loss + 0.0 * step.student.logits.float().mean(), logits

    def predict(self, student: Features) -> Tensor:
        """Return the teacher's classifier [B, K] on the mean of the projected map."""
        return self._classified(self.simkd(self._source(student)))

    def _source(self, student: Features) -> Tensor:
        return pooled_to(_student_map(student), self._size)

    def _classified(self, projected: Tensor) -> Tensor:
        return F.linear(projected.mean((2, 3)), self.head_weight, self.head_bias)


def _student_map(features: Features) -> Tensor:
    stage = features.stages[-1]
    last = features.last_map
    return last if last is not None and last.shape == stage.shape else stage
