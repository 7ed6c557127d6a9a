"""A critic that tells the student's pooled features from noise, and a student that misleads it."""

from collections.abc import Iterator

import torch
from torch import nn

from benchmark.methods.base import Entries, Method, Optim, Setup, Step
from benchmark.methods.options import MethodOptions


class Options(MethodOptions):
    """None."""


class Critic(Method[Options]):
    """Three optimisers of one turn, and a second turn that moves the critic alone."""

    needs_teacher = False

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        width = setup.student.features.pooled.shape[1]
        self.critic = nn.Linear(width, 1)
        self.scale = nn.Parameter(torch.ones(width))
        self._student = (setup.student.model,)

    def optimizers(self) -> dict[str, Optim]:
        """The critic's own, one more for the student, and one that shares main's gradient."""
        (student,) = self._student
        return {
            "critic": Optim(list(self.critic.parameters()), "adam", lr=1e-3, clip_norm=1.0),
            "misled": Optim(list(student.parameters()), "sgd", lr=1e-4, shared=True),
            "scale": Optim([self.scale], weight_decay=0.0),
        }

    def turns(self, step: Step) -> Iterator[Entries]:
        """Yield the student's and the critic's updates, then the critic's again."""
        pooled = step.student.pooled * self.scale
        noise = torch.randn_like(pooled)
        yield {
            ("main", "scale"): {"size": pooled.square().mean()},
            "misled": {"misled": self.critic(pooled).mean().square()},
            "critic": {"critic": self._apart(pooled.detach(), noise)},
        }
        yield {"critic": {"again": self._apart(pooled.detach(), noise)}}

    def _apart(self, pooled: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return (self.critic(pooled) - 1).square().mean() + self.critic(noise).square().mean()
