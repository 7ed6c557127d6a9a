"""DKS: classifiers at several depths all learn from each other.

Sun et al. 2019, "Deeply-supervised Knowledge Synergy" (arXiv:1906.00675), equations 4 and 5:
auxiliary branches from intermediate stages, cross-entropy on each, and the divergence of every
ordered pair of classifiers, targets detached. As in winycg/Self-KD-Lib@ede3062: temperature 4 with
T^2, weight 1 (the paper: temperature 1). A branch is a copy of what follows the stage, from the two
stages before the last; that code's have one block in the first of two stages. They vanish after
training; the student is reported.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from benchmark.methods._byot_losses import synergy_loss
from benchmark.methods._online import labels_terms, mean_logits, models
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions, Planned
from benchmark.models.features import Features


class Options(MethodOptions):
    """How many branches, and what they say to each other."""

    num_branches: int = Field(2, ge=1, le=4, description="from the last stages but the very last")
    weight: float = Field(1.0, ge=0, description="weight of all pairs' divergences")
    temperature: float = Field(4.0, gt=0, description="divides all logits")

    @property
    def networks(self) -> tuple[str, ...]:
        """The branches are of the student's architecture."""
        return ("student",)

    @property
    def evaluates(self) -> tuple[str, ...]:
        """Every branch, the deepest first, and the mean of all logits."""
        return (*(f"branch{i}" for i in range(1, self.num_branches + 1)), "ensemble")

    def refuse(self, planned: Planned) -> str | None:
        """Refuse more branches than there are stages to start from."""
        if planned.num_stages == 0:
            return f"branches off after a stage, and {planned.student} cannot be cut"
        if self.num_branches > planned.num_stages:
            return (
                f"starts {self.num_branches} branches, but {planned.student} has"
                f" {planned.num_stages} stages to start from"
            )
        return None


class DKS(Method[Options]):
    """Branches after the student's last stages but the very last."""

    needs_teacher = False

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        last = len(setup.student.features.stages) - 1
        self._stages = [last - i for i in range(1, options.num_branches + 1)]
        self.branches = nn.ModuleList(setup.tail(f"branch{s}", s) for s in self._stages)

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return the branches' labels and every pair's divergence."""
        options = self.options
        passes = [
            step.run(branch, step.student.stages[s]).logits
            for branch, s in zip(models(self.branches), self._stages, strict=True)
        ]
        taught = synergy_loss([step.student.logits, *passes], options.temperature)
        return labels_terms(passes, step.labels) | {"pairs": options.weight * taught}

    def outputs(self, images: Tensor, student: Features) -> dict[str, Tensor]:
        """Return every branch's logits and the mean of all."""
        found = {
            f"branch{i}": branch(student.stages[s])
            for i, (branch, s) in enumerate(zip(self.branches, self._stages, strict=True), 1)
        }
        return found | {"ensemble": mean_logits([student.logits, *found.values()])}
