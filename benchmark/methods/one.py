"""ONE: branches of one trunk learn from their gated ensemble, built while they train.

Lan et al. 2018, "Knowledge Distillation by On-the-Fly Native Ensemble" (arXiv:1806.04606),
equations 3 to 8: three branches from the last stage on; a gate on the trunk's pooled map weighs
their logits for each image; the mixture learns from the labels, and every branch from the labels
and the mixture, which is detached. As in Lan1991Xu/ONE_NeurIPS2018@54afde3: temperature 3, 1e-7
added to the target's probabilities, the term grows over the first 80 epochs. The reported network
is branch 1, the student. OKDDip's re-run reports the mean of the branches and does not detach
(``detach: false``).
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from benchmark.methods._batch import need_two
from benchmark.methods._branch_losses import Gate, ensemble_loss, gated_logits
from benchmark.methods._maps import need_maps
from benchmark.methods._online import branch_stage, build_tails, labels_terms, models
from benchmark.methods._peers import ramp
from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import BranchOptions, numbered
from benchmark.models.features import Features
from benchmark.models.layers import global_average


class Options(BranchOptions):
    """The branches and the ensemble's weight."""

    num_branches: int = Field(3, ge=2, le=8, description="branches, the student's among them")
    weight: float = Field(1.0, ge=0, description="weight of the divergence from the ensemble")
    detach: bool = Field(True, description="the ensemble is not moved by what it teaches")

    @property
    def members(self) -> tuple[str, ...]:
        """The other branches."""
        return numbered("branch", 2, self.num_branches)


class ONE(Method[Options]):
    """Branches beside the student's own, and a gate over all of them."""

    needs_teacher = False

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        need_maps("one", setup.student)
        self._stage = branch_stage(setup.student, options.stage)
        self.branches = build_tails(setup, options.num_branches - 1, self._stage)
        channels = setup.student.features.stages[self._stage].shape[1]
        self.gate = Gate(channels, options.num_branches)

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return the branches' and the ensemble's labels, and what the ensemble teaches."""
        options = self.options
        trunk = step.student.stages[self._stage]
        need_two("one", trunk)
        passes = [step.run(branch, trunk).logits for branch in models(self.branches)]
        logits = [step.student.logits, *passes]
        ensemble = gated_logits(logits, self.gate(global_average(trunk)))
        weight = options.weight * ramp(step.epoch, options.ramp_epochs)
        taught = ensemble_loss(logits, ensemble, options.temperature, detach=options.detach)
        named = labels_terms([*passes, ensemble], step.labels)
        named["ce_ensemble"] = named.pop(f"ce{len(passes) + 1}")
        return named | {"ensemble": weight * taught}

    def outputs(self, images: Tensor, student: Features) -> dict[str, Tensor]:
        """Return the other branches' logits and the gated ensemble's."""
        trunk = student.stages[self._stage]
        passes = [branch(trunk) for branch in self.branches]
        gate = self.gate(global_average(trunk))
        found = {f"branch{i}": z for i, z in enumerate(passes, 2)}
        return found | {"ensemble": gated_logits([student.logits, *passes], gate)}
