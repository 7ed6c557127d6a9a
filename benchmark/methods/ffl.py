"""FFL: two sub-networks and a classifier on their fused maps teach each other.

Kim et al. 2020, "Feature Fusion for Online Mutual Knowledge Distillation" (arXiv:1904.09058),
section 3: the fused classifier teaches both sub-networks, the mean of their logits teaches the
fused one, targets detached. As in Jangho-Kim/FFL-pytorch@546d478: temperature 3 with T^2, 1e-7
added to the targets' probabilities, the terms grow over the first 80 epochs; the fusion module is
a depthwise 3x3 convolution on both last maps, batch norm, ReLU, a 1x1 convolution, batch norm,
ReLU, the mean over positions and a linear layer, under its own SGD with weight decay 1e-5. The
sub-networks' decay is the recipe's (1e-4 there). The reported network is the first sub-network
(FFL-S in tables); the fused classifier stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.methods._batch import need_two
from benchmark.methods._branch_losses import fusion_loss
from benchmark.methods._online import (
    branch_stage,
    build_peers,
    build_tails,
    labels_terms,
    mean_logits,
    models,
)
from benchmark.methods._peers import ramp
from benchmark.methods.base import MAIN, Entries, Method, Optim, Setup, Step
from benchmark.methods.options import BranchOrNetworkOptions
from benchmark.models.features import Features
from benchmark.models.layers import global_average, init_convolutions


class FusionClassifier(nn.Module):
    """Classifies two maps [B, C, H, W] together."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        both = 2 * channels
        self.depthwise = nn.Conv2d(both, both, 3, padding=1, groups=both, bias=False)
        self.bn1 = nn.BatchNorm2d(both)
        self.pointwise = nn.Conv2d(both, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, num_classes)
        init_convolutions(self)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return logits [B, K]."""
        x = F.relu(self.bn1(self.depthwise(torch.cat([first, second], 1))))
        logits: Tensor = self.fc(global_average(F.relu(self.bn2(self.pointwise(x)))))
        return logits


class Options(BranchOrNetworkOptions):
    """The sub-networks and the fusion's weight decay."""

    weight: float = Field(1.0, ge=0, description="weight of all three divergences")
    fusion_decay: float = Field(1e-5, ge=0, description="weight decay of the fusion module")

    @property
    def members(self) -> tuple[str, ...]:
        """The second sub-network."""
        return ("subnet2",)

    @property
    def evaluates(self) -> tuple[str, ...]:
        """The second sub-network, the mean of both, and the fused classifier."""
        return (*super().evaluates, "fused")


class FFL(Method[Options]):
    """A second sub-network, and a classifier that fuses the last maps of both."""

    needs_teacher = False

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        last = setup.student.features.last_map
        if last is None:
            raise UserError(f"ffl fuses last maps, and {setup.student.name} has none")
        self._stage = branch_stage(setup.student, options.stage)
        built = (
            build_tails(setup, 1, self._stage)
            if options.form == "branches"
            else build_peers(setup, 1, "student")
        )
        (self.subnet,) = models(built)
        self.fusion = FusionClassifier(last.shape[1], setup.num_classes)

    def optimizers(self) -> dict[str, Optim]:
        """Return the fusion module's own, of another weight decay."""
        decay = self.options.fusion_decay
        return {"fusion": Optim(list(self.fusion.parameters()), weight_decay=decay)}

    def turns(self, step: Step) -> Iterator[Entries]:
        """Yield the one update, of both optimisers by one gradient."""
        options = self.options
        branches = options.form == "branches"
        second = step.run(
            self.subnet,
            step.student.stages[self._stage] if branches else step.images,
        )
        assert step.student.last_map is not None
        assert second.last_map is not None
        if step.student.last_map.shape[2:].numel() == 1:
            need_two("ffl", step.student.last_map)
        fused = self.fusion(step.student.last_map, second.last_map)
        taught = fusion_loss([step.student.logits, second.logits], fused, options.temperature)
        weight = options.weight * ramp(step.epoch, options.ramp_epochs)
        terms = labels_terms([second.logits, fused], step.labels)
        terms = {"ce_subnet2": terms["ce1"], "ce_fused": terms["ce2"], "fusion": weight * taught}
        yield {(MAIN, "fusion"): terms}

    def outputs(self, images: Tensor, student: Features) -> dict[str, Tensor]:
        """Return the second sub-network's logits, the mean of both, and the fused ones."""
        branches = self.options.form == "branches"
        given = student.stages[self._stage] if branches else images
        second = self.subnet.features(given)
        return {
            "subnet2": second.logits,
            "ensemble": mean_logits([student.logits, second.logits]),
            "fused": self.fusion(student.last_map, second.last_map),
        }
