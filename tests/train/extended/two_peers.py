"""Two networks that learn from each other; both, and the mean of their logits, are evaluated."""

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.kd import kd_loss
from benchmark.methods.options import MethodOptions, Planned
from benchmark.models.features import Features


class Options(MethodOptions):
    """Which network the peer is."""

    peer: str = Field("student", description="the peer's architecture")

    @property
    def networks(self) -> tuple[str, ...]:
        """The peer."""
        return (self.peer,)

    def refuse(self, planned: Planned) -> str | None:
        """Peers that never meet a second epoch learn nothing."""
        return "needs two epochs" if planned.epochs < 2 else None


class TwoPeers(Method[Options]):
    """Each learns from labels and from the other."""

    needs_teacher = False
    evaluates = ("peer", "ensemble")
    averaged = ("student", "peer")

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self.peer = setup.build("peer", options.peer)

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return the peer's cross-entropy and both divergences."""
        peer = step.run(self.peer, step.images).logits
        student = step.student.logits
        return {
            "ce": F.cross_entropy(peer, step.labels),
            "to_peer": kd_loss(peer, student.detach(), 1.0),
            "to_student": kd_loss(student, peer.detach(), 1.0),
        }

    def outputs(self, images: Tensor, student: Features) -> dict[str, Tensor]:
        """Return the peer's logits and the mean of both."""
        peer = self.peer.features(images).logits
        return {"peer": peer, "ensemble": (peer + self.predict(student)) / 2}
