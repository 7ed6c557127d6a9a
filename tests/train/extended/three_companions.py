"""A second view, a partner of the class, and the batch before, whose logits are remembered."""

import torch
from torch import Tensor

from benchmark.methods.base import Method, Setup, Step
from benchmark.methods.kd import kd_loss
from benchmark.methods.options import MethodOptions


class Options(MethodOptions):
    """None."""


class ThreeCompanions(Method[Options]):
    """Every kind of further image teaches or is taught."""

    needs_teacher = False
    companions = (("view", 1), ("class", 0), ("previous", 1))

    last: Tensor
    count: Tensor

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self._student = (setup.student.model,)
        self.register_buffer("last", torch.zeros(setup.batch_size, setup.num_classes))
        self.register_buffer("count", torch.tensor(0))

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return the view's, the partner's and the last batch's divergence."""
        view, partner, before = step.companions
        (student,) = self._student
        logits = step.student.logits
        with torch.no_grad():
            of_partner = step.run(student, partner.images).logits
        terms = {
            "view": kd_loss(step.run(student, view.images).logits, logits.detach(), 2.0),
            "partner": kd_loss(logits, of_partner, 2.0),
        }
        known = int(self.count)
        if known:
            again = step.run(student, before.images).logits
            terms["before"] = kd_loss(again, self.last[:known], 2.0)
        self.last[: len(logits)] = logits.detach()
        self.count.fill_(len(logits))
        return terms
