"""AFD, online: networks fool each other's discriminators with their last feature maps.

Chung et al. 2020, "Feature-map-level Online Adversarial Knowledge Distillation"
(arXiv:2002.01775), equations 1 to 5: network k learns the labels and its teacher's softened logits
by one optimiser; by a second one, of a smaller rate, it makes its last map look like its teacher's
to discriminator k; the discriminators learn by a third. All three gradients are taken at one
point, from one pass. K networks stand in a cycle, one way: k learns from k - 1, the first from the
last. Surveys add the adversarial loss to the others in one sum; the paper keeps two updates.

Deviation for more than two networks: logits go round the cycle, too, as the maps do. The paper's
logit part is that of mutual learning, from all other networks; for two both are the same.

No public code was found (the AFD of public collections is another method, on attention). Unverified
and therefore options: temperature 3, Adam at 2e-5 with weight decay 0.1 for the adversarial part.
The discriminator's form is open, too: a 3x3 convolution of stride 2, the mean over positions, a
linear layer, a sigmoid, in the least-squares game of the printed equations. If maps differ in
channels each network gets a 1x1 convolution to the fewest; if they differ in size the larger are
average-pooled.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.methods import _afd_losses as game
from benchmark.methods._online import build_peers, labels_terms, mean_logits, models
from benchmark.methods._peers import divergence
from benchmark.methods._precision import full_precision
from benchmark.methods.base import MAIN, Entries, Method, Optim, Setup, Step
from benchmark.methods.options import PeerOptions
from benchmark.models.features import Features


class Options(PeerOptions):
    """The networks, and the adversarial optimisers."""

    weight: float = Field(1.0, ge=0, description="weight of the divergence from the teacher")
    adversarial_weight: float = Field(1.0, ge=0, description="weight of fooling a discriminator")
    temperature: float = Field(3.0, gt=0, description="divides all logits")
    adversarial_lr: float = Field(2e-5, gt=0, description="Adam's rate for the adversarial game")
    adversarial_decay: float = Field(0.1, ge=0, description="weight decay of that Adam")


class AFD(Method[Options]):
    """Peers, a discriminator for each network, and a transfer layer if maps differ."""

    needs_teacher = False

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self.peers = build_peers(setup, options.num_networks - 1, options.peer)
        self._student = (setup.student.model,)
        channels = [self._last(setup.student.features).shape[1]]
        channels += [peer.head.in_features for peer in models(self.peers)]
        common = min(channels)
        self.transfer = nn.ModuleList(
            nn.Identity() if len(set(channels)) == 1 else nn.Conv2d(c, common, 1, bias=False)
            for c in channels
        )
        self.discriminators = nn.ModuleList(game.Discriminator(common) for _ in channels)

    @staticmethod
    def _last(features: Features) -> Tensor:
        if features.last_map is None or features.last_map.dim() != 4:
            raise UserError("afd needs a last feature map [B, C, H, W] of every network")
        return features.last_map

    def optimizers(self) -> dict[str, Optim]:
        """Return Adam for the game: the networks a second time, their layers, the judges."""
        options = self.options
        shared = [p for network in (*self._student, *self.peers) for p in network.parameters()]
        own = list(self.transfer.parameters())
        adam = Optim([], "adam", options.adversarial_lr, options.adversarial_decay)
        found = {
            "adversary": adam._replace(parameters=shared, shared=True),
            "discriminators": adam._replace(parameters=list(self.discriminators.parameters())),
        }
        return found | ({"transfer": adam._replace(parameters=own)} if own else {})

    def turns(self, step: Step) -> Iterator[Entries]:
        """Yield one turn: logits, the adversary, the discriminators, at one point."""
        options = self.options
        seen = [step.student, *(step.run(peer, step.images) for peer in models(self.peers))]
        logits = [features.logits for features in seen]
        terms = labels_terms(logits[1:], step.labels)
        for k, n in enumerate(game.teachers_of(len(logits))):
            terms[f"kl{k}"] = options.weight * logits_loss(
                logits[k], logits[n], options.temperature
            )
        maps = self._transferred([self._last(features) for features in seen])
        judges = list(self.discriminators)
        fooled = options.adversarial_weight * generator_loss(maps, judges)
        adversary = ("adversary", "transfer") if list(self.transfer.parameters()) else "adversary"
        yield {
            MAIN: terms,
            adversary: {"generator": fooled},
            "discriminators": {"discriminator": discriminator_loss(maps, judges)},
        }

    def _transferred(self, maps: list[Tensor]) -> list[Tensor]:
        size = min((m.shape[2], m.shape[3]) for m in maps)
        return [
            layer(m if m.shape[2:] == size else F.adaptive_avg_pool2d(m, size))
            for layer, m in zip(self.transfer, maps, strict=True)
        ]

    def outputs(self, images: Tensor, student: Features) -> dict[str, Tensor]:
        """Return every peer's logits and the mean of all."""
        found = {f"peer{i}": peer(images) for i, peer in enumerate(self.peers, 1)}
        return found | {"ensemble": mean_logits([student.logits, *found.values()])}


@full_precision
def logits_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(teacher || student) of logits [B, K]; the teacher is detached."""
    return divergence(student, teacher.detach(), temperature)


@full_precision
def generator_loss(maps: list[Tensor], judges: list[nn.Module]) -> Tensor:
    """Return how far all maps are from fooling their discriminators."""
    return game.generator_loss(maps, judges)


@full_precision
def discriminator_loss(maps: list[Tensor], judges: list[nn.Module]) -> Tensor:
    """Return how far the discriminators are from telling teachers from students."""
    return game.discriminator_loss(maps, judges)
