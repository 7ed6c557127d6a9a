"""A second classifier on the student's own stem and stages, which both train."""

import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions


class Options(MethodOptions):
    """None."""


class Tied(Method[Options]):
    """Holds the student, and a classifier of its own."""

    needs_teacher = False
    shares_student = True

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self.trunk = setup.student.model
        self.booster = nn.Linear(setup.student.features.pooled.shape[1], setup.num_classes)

    def loss(self, step: Step) -> Tensor:
        """Return the booster's cross-entropy."""
        return F.cross_entropy(self.booster(step.student.pooled), step.labels)
