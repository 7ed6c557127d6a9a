"""Class-distance loss, the teacher's side: features near their class's centre, far from others.

Kim & Kim 2017, "Transferring Knowledge to Smaller Network with Class-Distance Loss" (ICLR
workshop): beside the cross-entropy the distance of the last dense layer's input to the mean vector
of its class, less the bounded distance to the other classes' means. UNVERIFIED: neither the
equation nor code was seen; the squared distances, the bound on each of them and the weights are one
reading of the paper's words. Centres are the class means of the epoch before, constants; the first
epoch has none. For few classes alone. ``class_distance_student`` is what learns from such a
teacher.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from benchmark.methods._self_losses import pull_loss, push_loss
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions


class Options(MethodOptions):
    """Weight and bound of the distances."""

    weight: float = Field(0.1, ge=0, description="weight of the distances")
    bound: float = Field(4.0, gt=0, description="squared distance beyond which none is pushed")


class ClassDistance(Method[Options]):
    """Pull towards the own class's centre, bounded push from the others'."""

    keeps_memory = True
    needs_teacher = False

    centres: Tensor
    sums: Tensor
    counts: Tensor

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        shape = (setup.num_classes, setup.student.features.pooled.shape[1])
        for name in ("centres", "sums"):
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("counts", torch.zeros(setup.num_classes))

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return the weighted pull and push; notes the features for the next centres."""
        options, features = self.options, step.student.pooled
        if self.training:
            with torch.no_grad():
                self.sums.index_add_(0, step.labels, features.detach().float())
                self.counts.index_add_(0, step.labels, torch.ones_like(features[:, 0]).float())
        if step.epoch == 1:  # nothing has been averaged yet
            return {"pull": 0.0 * features.float().mean()}
        pull = pull_loss(features, step.labels, self.centres)
        push = push_loss(features, step.labels, self.centres, options.bound)
        return {"pull": options.weight * pull, "push": -options.weight * push}

    def end_epoch(self, epoch: int, held_out: dict[str, Tensor] | None) -> None:
        """Take the epoch's class means as centres; a class that was not seen keeps its own."""
        seen = self.counts > 0
        means = self.sums / self.counts.clamp(min=1).unsqueeze(1)
        self.centres.copy_(torch.where(seen.unsqueeze(1), means, self.centres))
        self.sums.zero_()
        self.counts.zero_()
