"""The student at the end of the last cycle teaches this one; held-out images weigh it."""

import torch
from pydantic import Field
from torch import Tensor

from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.kd import kd_loss
from benchmark.methods.options import MethodOptions, Planned
from benchmark.models.parts import Frozen


class Options(MethodOptions):
    """The cycle's length, and whether held-out images are looked at."""

    cycle: int = Field(1, ge=1, description="epochs of a cycle")
    held_out: bool = Field(False, description="weigh the copy by its held-out accuracy")

    @property
    def wants_held_out(self) -> bool:
        """As the option says."""
        return self.held_out

    def refuse(self, planned: Planned) -> str | None:
        """Cycles divide the epochs."""
        if planned.epochs % self.cycle:
            return f"has cycles of {self.cycle} epochs, which do not divide {planned.epochs}"
        return None


class CycleCopy(Method[Options]):
    """A frozen copy, renewed when an epoch ends."""

    needs_teacher = False

    weight: Tensor

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self._student = (setup.student.model,)
        self.copy = Frozen(setup.student.model)
        self.register_buffer("weight", torch.tensor(0.0))

    def loss(self, step: Step) -> Tensor:
        """Return the divergence from the copy."""
        with torch.no_grad():
            teacher = step.run(self.copy, step.images).logits
        return self.weight * kd_loss(step.student.logits, teacher, 3.0)

    def end_epoch(self, epoch: int, held_out: dict[str, Tensor] | None) -> None:
        """Renew the copy at a cycle's end."""
        if epoch % self.options.cycle == 0:
            self.copy.renew(self._student[0])
            self.weight.fill_(1.0)
            if held_out is not None:
                hits = held_out["student"].argmax(1) == held_out["labels"]
                self.weight.copy_(0.5 + hits.float().mean())
