"""Rocket launching: a light network is trained beside a booster, whose convolutions it shares.

Zhou et al. 2018, "Rocket Launching: A Universal and Efficient Framework for Training
Well-performing Light Net" (arXiv:1708.04106), equations 1 and 2 and the gradient block: both
networks learn the labels, the light one the booster's logits by their squared distance, which does
not move the booster's logits. The light net is the student and the reported network. As in
zhougr1993/Rocket-Launching@b820cc4 the hint is 0.03 times the sum over classes, a mean over the
batch (the code divides by a constant batch size of 128, so that its short last batches weigh
less). Surveys print a softmax against logits and call the number of samples a temperature; that
misprint is not implemented, its repair (half the squared distance of logits) is ``weight: 0.5``.

``sharing``: wide ResNets of one width share convolutions, the light net's blocks being spread over
each stage of the booster's (interval) or its first ones (bottom), and the stem; batch norms and
classifiers are each one's own. ``auto``, the default, shares if it can and nothing elsewhere.
Weights that are shared are drawn as the student's.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.methods._online import mean_logits
from benchmark.methods._self_losses import hint_loss
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions
from benchmark.models.features import Features, Model
from benchmark.models.wide_resnet import PreactBlock, WideResNet


def share_convolutions(light: Model, booster: Model, spread: bool) -> bool:
    """Put the light net's convolutions into the booster; False if they do not fit."""
    if not (isinstance(light, WideResNet) and isinstance(booster, WideResNet)):
        return False
    if light.head.in_features != booster.head.in_features:
        return False
    booster.conv1.weight = light.conv1.weight
    for name in ("block1", "block2", "block3"):
        own, theirs = (list(getattr(network, name).layer) for network in (light, booster))
        if len(own) > len(theirs):
            return False
        stride = len(theirs) // len(own) if spread else 1
        for i, block in enumerate(own):
            _share_block(block, theirs[i * stride])
    return True


def _share_block(own: PreactBlock, theirs: PreactBlock) -> None:
    for name in ("conv1", "conv2", "convShortcut"):
        given = getattr(own, name)
        if given is not None:
            getattr(theirs, name).weight = given.weight


class Options(MethodOptions):
    """The booster, what it shares and how it teaches."""

    weight: float = Field(0.03, ge=0, description="weight of the squared distance of logits")
    booster: str = Field("pair", description="its architecture; pair: the column's teacher's")
    sharing: Literal["auto", "interval", "bottom", "none"] = Field(
        "auto", description="which of the booster's blocks share the student's convolutions"
    )
    block_gradient: bool = Field(True, description="the hint does not move the booster's logits")

    @property
    def networks(self) -> tuple[str, ...]:
        """The booster."""
        return (self.booster,)

    @property
    def shares_student(self) -> bool:
        """Whether the booster may hold parameters of the student."""
        return self.sharing != "none"


class Rocket(Method[Options]):
    """A booster trained beside the student."""

    needs_teacher = False
    evaluates = ("booster", "ensemble")

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self.booster = setup.build("booster", options.booster)
        if options.sharing == "none":
            return
        shared = share_convolutions(
            setup.student.model, self.booster, spread=options.sharing != "bottom"
        )
        if not shared and options.sharing != "auto":
            raise UserError(
                f"rocket.sharing '{options.sharing}' is for two wide ResNets of one width, the"
                f" booster being the deeper; choose 'none' for {setup.student.name}"
            )

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return the booster's labels and the hint."""
        booster = step.run(self.booster, step.images).logits
        seen = booster.detach() if self.options.block_gradient else booster
        hint = hint_loss(step.student.logits, seen)
        labels = F.cross_entropy(booster, step.labels)
        return {"ce_booster": labels, "hint": self.options.weight * hint}

    def outputs(self, images: Tensor, student: Features) -> dict[str, Tensor]:
        """Return the booster's logits, and the mean of both."""
        booster: Tensor = self.booster(images)
        return {"booster": booster, "ensemble": mean_logits([student.logits, booster])}
