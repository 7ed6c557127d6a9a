"""Deep mutual learning: networks trained together, each on the labels and on its peers.

Zhang et al. 2018, "Deep Mutual Learning" (arXiv:1706.00384), equations 5 to 8 for two networks,
and the K-network loss: CE + 1/(K-1) sum of KL(p_j || p_i) at temperature 1. A target carries no
gradient, which equals the authors' gradients with respect to a network's own variables
(YingZhangDUT/Deep-Mutual-Learning@34a2058). The reported network is the first, named before
training. One optimiser for all networks equals one each, as long as no gradient norm is clipped.

Other readings are options. ``updates: alternating`` is the paper's algorithm (network 1 moves, the
others see what it says then), at one more pass a network; its code and every re-implementation
move all from one pass. ``reduction: sum``: its code leaves the 1/(K-1) out. ``target: ensemble``:
one divergence from the peers' averaged probabilities, which the paper reports as the weaker variant
and surveys print as its equation. ``target: logits``: from averaged logits; at temperature 3, with
``epsilon`` 1e-7 and ``detach: false`` it is the DML of OKDDip's table
(DefangChen/OKDDip-AAAI2020@c6a05de). ``target: symmetric``: half the sum of both directions
(sseung0703/KD_methods_with_TF@9fb5414). ``detach: false`` with two networks is the loss of
chxy95/Deep-Mutual-Learning@650e276.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods._dml_losses import mutual_loss
from benchmark.methods._online import build_peers, labels_terms, mean_logits, models
from benchmark.methods.base import MAIN, Entries, Method, Optim, Setup, Step
from benchmark.methods.options import PeerOptions
from benchmark.models.features import Features


class Options(PeerOptions):
    """How many networks of which architecture, and what they say to each other."""

    weight: float = Field(1.0, ge=0, description="weight of the divergence from the peers")
    temperature: float = Field(1.0, gt=0, description="divides all networks' logits")
    target: Literal["pairwise", "ensemble", "logits", "symmetric"] = Field(
        "pairwise", description="one divergence a peer, or one from their mean"
    )
    reduction: Literal["mean", "sum"] = Field("mean", description="over a network's peers")
    detach: bool = Field(True, description="targets carry no gradient")
    epsilon: float = Field(0.0, ge=0, description="added to the probabilities of target logits")
    updates: Literal["simultaneous", "alternating"] = Field(
        "simultaneous", description="all networks from one pass, or one after the other"
    )


class DML(Method[Options]):
    """Peers beside the student, each taught by the labels and the others."""

    needs_teacher = False

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self.peers = build_peers(setup, options.num_networks - 1, options.peer)
        self._student = (setup.student.model,)  # in a tuple: not a part of the method

    def optimizers(self) -> dict[str, Optim]:
        """Return one for each peer where they move in turn."""
        if self.options.updates == "simultaneous":
            return {}
        return {f"peer{i}": Optim(list(p.parameters())) for i, p in enumerate(self.peers, 1)}

    def turns(self, step: Step) -> Iterator[Entries]:
        """Yield one update of all networks, or one of each."""
        passes = [step.run(peer, step.images).logits for peer in models(self.peers)]
        logits = [step.student.logits, *passes]
        if self.options.updates == "simultaneous":
            taught = {f"kl{i}": self._taught(logits, i) for i in range(len(logits))}
            yield {MAIN: labels_terms(logits[1:], step.labels) | taught}
            return
        yield {MAIN: {"kl0": self._taught(logits, 0)}}
        networks = [*self._student, *models(self.peers)]
        for i in range(1, len(networks)):
            with torch.no_grad():  # what moved last has something else to say
                logits[i - 1] = step.run(networks[i - 1], step.images).logits
            labels = F.cross_entropy(logits[i], step.labels)
            yield {f"peer{i}": {f"ce{i}": labels, f"kl{i}": self._taught(logits, i)}}

    def _taught(self, logits: list[Tensor], own: int) -> Tensor:
        options = self.options
        return options.weight * mutual_loss(
            logits,
            own,
            options.temperature,
            options.target,
            total=options.reduction == "sum",
            detach=options.detach or options.updates == "alternating",
            epsilon=options.epsilon,
        )

    def outputs(self, images: Tensor, student: Features) -> dict[str, Tensor]:
        """Return every peer's logits and the mean of all."""
        found = {f"peer{i}": peer(images) for i, peer in enumerate(self.peers, 1)}
        return found | {"ensemble": mean_logits([student.logits, *found.values()])}
