"""Class attention transfer (CAT-KD): match the class activation maps before they are pooled.

Guo et al. 2023, "Class Attention Transfer Based Knowledge Distillation" (arXiv:2304.12777). A
class activation map (CAM) is the classifier applied to every position of the last map, as a 1x1
convolution without bias; logits are the means of the maps. The bias is dropped from both
networks, so the student is trained and evaluated on its logits without bias, and its bias stays
at its initial value.

Deviation: the authors' student starts its 1x1 convolution like every other convolution of its
network (He, fan-out); here the student keeps its own classifier and that one's initialisation,
since a student's initial weights depend on the model and the seed alone.

beta, resolution and normalize are published per pair (CIFAR-100: 0.7 to 600, 2 or 4, normalised
if the architectures differ); the defaults are those of resnet32x4 to resnet8x4. CAT alone:
no cross-entropy, beta 50, normalised; with the teacher's maps binarised beta 300. ImageNet
ResNet34 to ResNet18: beta 0.5, resolution 4.
"""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods._last_map import last_map, need_last_map
from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions
from benchmark.models.features import Features


def class_activation_maps(features: Tensor, weight: Tensor) -> Tensor:
    """Return the CAMs [B, K, H, W] of a map [B, D, H, W] for a classifier's weight [K, D]."""
    return F.conv2d(features, weight[:, :, None, None])


def binarized(maps: Tensor) -> Tensor:
    """Return 1 where a CAM exceeds the mean of its own magnitudes, else 0, for [B, K, H, W]."""
    return (maps > maps.abs().mean((2, 3), keepdim=True)).to(maps.dtype)


@full_precision
def catkd_loss(student: Tensor, teacher: Tensor, resolution: int, normalize: bool) -> Tensor:
    """Return the mean squared difference of CAMs [B, K, H, W], whose sizes may differ.

    Both are averaged into resolution x resolution bins; ``normalize`` brings each class's map
    to unit length.
    """
    student = F.adaptive_avg_pool2d(student, resolution).flatten(2)
    teacher = F.adaptive_avg_pool2d(teacher, resolution).flatten(2)
    if normalize:
        student, teacher = F.normalize(student, dim=2), F.normalize(teacher, dim=2)
    return F.mse_loss(student, teacher)


class Options(MethodOptions):
    """Options of CAT-KD."""

    ce_weight: float = Field(1.0, ge=0, description="weight of the cross-entropy on the labels")
    beta: float = Field(15.0, ge=0, description="weight of the difference of the maps")
    resolution: int = Field(2, gt=0, description="bins per side that maps are averaged into")
    normalize: bool = Field(False, description="bring every class's map to unit length")
    binarize: bool = Field(False, description="compare with the teacher's maps as 0 and 1")


class CATKD(Method[Options]):
    """The difference of class activation maps, and logits without bias."""

    teacher_maps = ("last_map",)

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        need_last_map("catkd", setup.student, setup.need_teacher())
        # A tuple keeps the network from becoming a part of the method.
        self._student = (setup.student.model,)

    def loss(self, step: Step) -> Tensor:
        """Return the weighted difference; no gradient reaches the teacher's classifier."""
        options = self.options
        assert step.teacher_head is not None
        student = class_activation_maps(last_map(step.student), step.student_head.weight)
        teacher = class_activation_maps(
            last_map(step.need_teacher()), step.teacher_head.weight.detach()
        )
        if options.binarize:
            teacher = binarized(teacher)
        return options.beta * catkd_loss(student, teacher, options.resolution, options.normalize)

    def predict(self, student: Features) -> Tensor:
        """Return the means of the CAMs [B, K]: the student's logits without bias."""
        return F.linear(student.pooled, self._student[0].head.weight)
