"""KDCL: networks trained together learn from one soft target made of all their answers.

Guo et al. 2020, "Online Knowledge Distillation via Collaborative Learning" (CVPR), section 3:
sum of CE + lambda T^2 KL(target || network), temperature 2 and lambda 1 for CIFAR. Each network
sees its own augmentation of the same image (``views: own``), which is a part of the method. The
target carries no gradient. There is no authors' code.

``target``: minlogit (the default; the cheapest, and what later public code calls KDCL) is the
elementwise minimum of logits less their label's; naive takes each image's network of the lowest
loss; linear the mixture of logits of the lowest cross-entropy, on the simplex, for each image or
(``linear_batch``) one for the batch, which the paper leaves open; general the mixture of
softened probabilities (``general_logits``: of logits) by the networks' error correlation on
held-out images, renewed after each epoch and equal in the first. Its weights are held on the
simplex: the closed form may be negative for networks that err alike, and the mixture no
distribution. It needs ``recipe.holdout``: the held-out images are training images that are not
trained on. ``mean`` is the target of a public re-implementation, none of the paper's
(shaoeric/Online-Knowledge-Distillation-via-Collaborative-Learning@1ba5461: temperature 4, weights
0.5 and 0.5).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods import _kdcl_targets as targets
from benchmark.methods._online import build_peers, labels_terms, mean_logits, models
from benchmark.methods._peers import divergence_from
from benchmark.methods._precision import full_precision
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import PeerOptions, Planned
from benchmark.models.features import Features


class Options(PeerOptions):
    """The networks, their views, and how one target is made of their answers."""

    ce_weight: float = Field(1.0, ge=0, description="weight of every network's labels")
    weight: float = Field(1.0, ge=0, description="weight of the divergence from the target")
    temperature: float = Field(2.0, gt=0, description="divides all networks' logits")
    num_networks: int = Field(2, ge=2, le=5, description="networks, the student among them")
    target: Literal[
        "minlogit", "naive", "linear", "linear_batch", "general", "general_logits", "mean"
    ] = Field("minlogit", description="how the target is made")
    views: Literal["own", "shared"] = Field("own", description="an augmentation each, or one")

    @property
    def companions(self) -> tuple[tuple[str, int], ...]:
        """A view for every peer."""
        return tuple(("view", i) for i in range(1, self.num_networks) if self.views == "own")

    @property
    def wants_held_out(self) -> bool:
        """For the general target alone."""
        return self.target.startswith("general")

    def refuse(self, planned: Planned) -> str | None:
        """Refuse the general target without held-out images."""
        if self.wants_held_out and not planned.holdout:
            return (
                f"needs held-out images for its target '{self.target}'; set recipe.holdout to"
                " their number (they are taken from the training images)"
            )
        return None


class KDCL(Method[Options]):
    """Peers on views of their own, all taught by one target."""

    needs_teacher = False

    mixture: Tensor

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self.peers = build_peers(setup, options.num_networks - 1, options.peer)
        equal = torch.full((options.num_networks,), 1.0 / options.num_networks)
        self.register_buffer("mixture", equal)

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return the peers' labels and every network's divergence from the target."""
        options = self.options
        if options.views == "own":
            views = [batch.images for batch in step.companions]
        else:
            views = [step.images] * len(self.peers)
        passes = [step.run(p, v).logits for p, v in zip(models(self.peers), views, strict=True)]
        logits = [step.student.logits, *passes]
        probs = self._target(torch.stack(logits).detach().float(), step.labels)
        found = {
            name: options.ce_weight * value
            for name, value in labels_terms(passes, step.labels).items()
        }
        for i, z in enumerate(logits):
            found[f"kl{i}"] = options.weight * target_loss(z, probs, options.temperature)
        return found

    @torch.no_grad()
    def _target(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the target's softened probabilities [B, K], of logits [M, B, K]."""
        kind, temperature = self.options.target, self.options.temperature
        mixture = self.mixture.to(logits.dtype).view(-1, 1, 1)
        if kind == "general":
            return (mixture * F.softmax(logits / temperature, 2)).sum(0)
        if kind == "minlogit":
            mixed = targets.min_logit_target(logits, labels)
        elif kind == "naive":
            mixed = targets.naive_target(logits, labels)
        elif kind == "mean":
            mixed = logits.mean(0)
        elif kind == "general_logits":
            mixed = (mixture * logits).sum(0)
        else:
            alpha = targets.linear_weights(logits, labels, per_sample=kind == "linear")
            mixed = (alpha.T.unsqueeze(2) * logits).sum(0)
        return F.softmax(mixed / temperature, 1)

    def outputs(self, images: Tensor, student: Features) -> dict[str, Tensor]:
        """Return every peer's logits and the mean of all."""
        found = {f"peer{i}": peer(images) for i, peer in enumerate(self.peers, 1)}
        return found | {"ensemble": mean_logits([student.logits, *found.values()])}

    def end_epoch(self, epoch: int, held_out: dict[str, Tensor] | None) -> None:
        """Renew the mixture by the networks' errors on the held-out images."""
        if held_out is None:
            return
        names = ["student", *self.options.evaluates[:-1]]
        logits = [held_out[name].double() for name in names]
        correlation = targets.error_correlation(logits, held_out["labels"])
        self.mixture.copy_(targets.general_weights(correlation))


@full_precision
def target_loss(student: Tensor, probs: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(probs || softmax(student / T)), averaged over the batch."""
    return divergence_from(student, probs, temperature)
