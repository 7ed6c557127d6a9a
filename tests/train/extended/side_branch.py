"""A second end of the student from its first stage on."""

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.options import MethodOptions, Planned


class Options(MethodOptions):
    """Where the branch begins."""

    stage: int = Field(1, ge=0, description="the stage after which the branch begins")

    def refuse(self, planned: Planned) -> str | None:
        """The student must have stages after it."""
        if self.stage < planned.num_stages:
            return None
        return f"branches after stage {self.stage}, and {planned.student} has {planned.num_stages}"


class SideBranch(Method[Options]):
    """The branch's own cross-entropy."""

    needs_teacher = False

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self.tail = setup.tail("branch", options.stage)

    def loss(self, step: Step) -> Tensor:
        """Return the branch's cross-entropy."""
        logits = step.run(self.tail, step.student.stages[self.options.stage]).logits
        return F.cross_entropy(logits, step.labels)
