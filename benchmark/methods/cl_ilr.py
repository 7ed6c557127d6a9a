"""CL-ILR: heads of one trunk learn from each other, and the trunk's gradient is rescaled.

Song & Chai 2018, "Collaborative Learning for Deep Neural Networks" (arXiv:1805.11761), section 3
with intermediate-level representation sharing: every head learns from the labels and from the mean
of the OTHER heads' logits; what flows back from several heads into the shared trunk is divided by
their number. There is no authors' code; temperature 3, undetached targets with 1e-7 added, and a
term that grows over 80 epochs are those of OKDDip's re-run (DefangChen/OKDDip-AAAI2020@c6a05de),
which stands behind every later table. The student is the first head; those tables print the mean.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from benchmark.methods._branch_losses import collaborative_loss
from benchmark.methods._online import (
    branch_stage,
    build_tails,
    labels_terms,
    mean_logits,
    models,
)
from benchmark.methods._peers import ramp
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import BranchOptions, numbered
from benchmark.models.features import Features


class Options(BranchOptions):
    """The heads, and whether the trunk's gradient is rescaled."""

    num_heads: int = Field(3, ge=2, le=8, description="heads, the student's among them")
    weight: float = Field(1.0, ge=0, description="weight of the divergence from the others")
    rescale: bool = Field(True, description="divide the trunk's gradient by the number of heads")

    @property
    def members(self) -> tuple[str, ...]:
        """The other heads."""
        return numbered("head", 2, self.num_heads)


class CLILR(Method[Options]):
    """Heads beside the student's own, on its trunk."""

    needs_teacher = False

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self._stage = branch_stage(setup.student, options.stage)
        self.heads = build_tails(setup, options.num_heads - 1, self._stage)

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return the heads' labels and what they learn from each other."""
        options = self.options
        trunk = step.student.stages[self._stage]
        if options.rescale and trunk.requires_grad:
            # All that comes back to the trunk passes here, the student's own head's part too.
            trunk.register_hook(lambda g: g / options.num_heads)  # type: ignore[no-untyped-call]
        passes = [step.run(head, trunk).logits for head in models(self.heads)]
        taught = collaborative_loss([step.student.logits, *passes], options.temperature)
        weight = options.weight * ramp(step.epoch, options.ramp_epochs)
        return labels_terms(passes, step.labels) | {"others": weight * taught}

    def outputs(self, images: Tensor, student: Features) -> dict[str, Tensor]:
        """Return the other heads' logits and the mean of all."""
        trunk = student.stages[self._stage]
        found = {f"head{i}": head(trunk) for i, head in enumerate(self.heads, 2)}
        return found | {"ensemble": mean_logits([student.logits, *found.values()])}
