"""PCL: peers on views of their own learn from a fused ensemble and from each other's averages.

Wu & Gong 2021, "Peer Collaborative Learning for Online Knowledge Distillation"
(arXiv:2006.04147), equations 3 to 8: three branches of one trunk, each fed its own augmentation; a
classifier on their concatenated features learns from the labels and teaches every peer, and so
does the moving average of every other peer. There is no authors' code; open points as in
shaoeric/Peer-Collaborative-Learning-for-Online-Knowledge-Distillation@6afb473: temperature 3,
targets detached, decay min(1 - 1/(t+1), 0.999) of the parameters alone, while the averaged model
runs in train mode, so that its batch statistics come of its own passes. Its ramp is broken (it
never leaves a small constant); the usual one over 80 epochs is used. The reported network is the
first peer, the student, as in the paper; that code prints the best of three. The first averaged
peer is evaluated beside it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor, nn

from benchmark.methods._branch_losses import peer_loss
from benchmark.methods._online import (
    Trunk,
    branch_stage,
    build_tails,
    labels_terms,
    mean_logits,
    models,
)
from benchmark.methods._peers import ramp
from benchmark.methods.base import MAIN, Entries, Method, Setup, Step
from benchmark.methods.options import BranchOptions, numbered
from benchmark.models.features import Features


class Options(BranchOptions):
    """The peers and the decay of their averages."""

    num_peers: int = Field(3, ge=2, le=8, description="branches, the student's among them")
    weight: float = Field(1.0, ge=0, description="weight of both distillation terms")
    decay: float = Field(0.999, ge=0, lt=1, description="largest decay of the moving averages")

    @property
    def members(self) -> tuple[str, ...]:
        """The other peers."""
        return numbered("peer", 2, self.num_peers)

    @property
    def companions(self) -> tuple[tuple[str, int], ...]:
        """A view for every peer but the student."""
        return tuple(("view", i) for i in range(1, self.num_peers))

    @property
    def evaluates(self) -> tuple[str, ...]:
        """The other peers, the fused ensemble, the first peer's moving average."""
        return (*self.members, "mean_logits", "ensemble", "average")


class PCL(Method[Options]):
    """Branches on views of their own, their ensemble and their moving averages."""

    needs_teacher = False
    moving_copies = ("average", "average_peers")

    updates: Tensor

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self._stage = branch_stage(setup.student, options.stage)
        self.peers = build_tails(setup, options.num_peers - 1, self._stage)
        width = setup.student.features.pooled.shape[1]
        self.fused = nn.Linear(options.num_peers * width, setup.num_classes)
        self._student = (setup.student.model,)
        self.average = copy.deepcopy(setup.student.model).requires_grad_(False)
        self.average_peers = copy.deepcopy(self.peers).requires_grad_(False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def turns(self, step: Step) -> Iterator[Entries]:
        """Yield the one update, then move the averages towards the new weights."""
        options = self.options
        views = [batch.images for batch in step.companions]
        seen = self._branches(step, views)
        logits = [features.logits for features in seen]
        ensemble = self.fused(torch.cat([features.pooled for features in seen], 1))
        with torch.no_grad():
            averaged = self._averages(step, views)
        taught = peer_loss(logits, ensemble, averaged, options.temperature)
        weight = options.weight * ramp(step.epoch, options.ramp_epochs)
        terms = labels_terms([*logits[1:], ensemble], step.labels)
        terms["ce_ensemble"] = terms.pop(f"ce{len(logits)}")
        yield {MAIN: terms | {"taught": weight * taught}}
        self._move_averages()

    def _branches(self, step: Step, views: list[Tensor]) -> list[Features]:
        trunk = Trunk(self._student[0], self._stage)
        found = [step.student]
        for peer, view in zip(models(self.peers), views, strict=True):
            found.append(step.run(peer, step.run(trunk, view).stages[0]))
        return found

    def _averages(self, step: Step, views: list[Tensor]) -> list[Tensor]:
        trunk = Trunk(self.average, self._stage)
        found = [step.run(self.average, step.images).logits]
        for peer, view in zip(models(self.average_peers), views, strict=True):
            map_ = step.run(trunk, view).stages[0]
            found.append(step.run(peer, map_).logits)
        return found

    @torch.no_grad()
    def _move_averages(self) -> None:
        # 1 - average_decay, as a number of the device, which nothing waits for.
        share = (1.0 / (self.updates + 1)).clamp(min=1.0 - self.options.decay)
        for mean, now in ((self.average, self._student[0]), (self.average_peers, self.peers)):
            for a, p in zip(mean.parameters(), now.parameters(), strict=True):
                a.lerp_(p, share.to(a.dtype))
        self.updates += 1

    def outputs(self, images: Tensor, student: Features) -> dict[str, Tensor]:
        """Return the other peers' logits, their mean, the ensemble's and the average's."""
        trunk = student.stages[self._stage]
        seen = [student, *(peer.features(trunk) for peer in models(self.peers))]
        logits = [features.logits for features in seen]
        found = {f"peer{i}": z for i, z in enumerate(logits[1:], 2)}
        found["mean_logits"] = mean_logits(logits)
        found["ensemble"] = self.fused(torch.cat([features.pooled for features in seen], 1))
        return found | {"average": self.average(images)}
