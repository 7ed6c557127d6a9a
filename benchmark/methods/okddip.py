"""OKDDip: peers that weigh each other by attention, and a leader that learns from their mean.

Chen et al. 2020, "Online Knowledge Distillation with Diverse Peers" (arXiv:1912.00350),
equations 3 to 8: three auxiliary peers and the group leader, which is the student here and the
reported network. Each auxiliary peer learns from the attention-weighted mixture of all auxiliary
peers, itself included; the leader from their plain mean. As in DefangChen/OKDDip-AAAI2020@c6a05de
the mixtures are of LOGITS at temperature 3 (the equations mix softened probabilities:
``mix: probabilities``), 1e-7 is added to a target's probabilities, both terms grow over the first
80 epochs, and nothing is detached: the attention learns through the targets alone, so that a
detached target would leave it as it was drawn.

``form: branches`` starts the peers from the student's last stage; ``networks`` gives each a network
of its own. Surveys that call the leader's term a divergence between each peer and the leader are
wrong: it is one way, from their mean.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from benchmark.methods._branch_losses import okddip_loss
from benchmark.methods._online import (
    branch_stage,
    build_peers,
    build_tails,
    labels_terms,
    mean_logits,
    models,
)
from benchmark.methods._peers import ramp
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import BranchOrNetworkOptions, numbered
from benchmark.models.features import Features

REDUCTION = 8  # how much narrower than the features the attention is


class Options(BranchOrNetworkOptions):
    """The peers, and how they are mixed."""

    num_peers: int = Field(3, ge=2, le=8, description="auxiliary peers beside the leader")
    weight: float = Field(1.0, ge=0, description="weight of both distillation terms")
    mix: Literal["logits", "probabilities"] = Field("logits", description="what attention mixes")

    @property
    def members(self) -> tuple[str, ...]:
        """Every auxiliary peer; the ensemble is the mean of their logits, without the leader's."""
        return numbered("peer", 1, self.num_peers)

    @property
    def averaged(self) -> tuple[str, ...]:
        """The auxiliary peers."""
        return self.members


class OKDDip(Method[Options]):
    """Auxiliary peers with attention, around the student as their leader."""

    needs_teacher = False

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self._stage = branch_stage(setup.student, options.stage)
        if options.form == "branches":
            self.peers = build_tails(setup, options.num_peers, self._stage)
        else:
            self.peers = build_peers(setup, options.num_peers, "student")
        width = setup.student.features.pooled.shape[1]
        narrow = max(width // REDUCTION, 1)
        self.query = nn.Linear(width, narrow, bias=False)
        self.key = nn.Linear(width, narrow, bias=False)

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return the peers' labels and the distillation inside the group."""
        options = self.options
        branches = options.form == "branches"
        given = step.student.stages[self._stage] if branches else step.images
        seen = [step.run(peer, given) for peer in models(self.peers)]
        logits = [features.logits for features in seen]
        taught = okddip_loss(
            step.student.logits,
            logits,
            [features.pooled for features in seen],
            self.query.weight,
            self.key.weight,
            options.temperature,
            mix_probabilities=options.mix == "probabilities",
        )
        weight = options.weight * ramp(step.epoch, options.ramp_epochs)
        return labels_terms(logits, step.labels) | {"group": weight * taught}

    def outputs(self, images: Tensor, student: Features) -> dict[str, Tensor]:
        """Return every auxiliary peer's logits, and their mean."""
        given = student.stages[self._stage] if self.options.form == "branches" else images
        found = {f"peer{i}": peer(given) for i, peer in enumerate(self.peers, 1)}
        return found | {"ensemble": mean_logits(list(found.values()))}
