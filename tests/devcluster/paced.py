"""KD that takes its time while a file exists: a plug-in that leaves tests time to disturb it."""

import os
import time
from pathlib import Path

from pydantic import Field
from torch import Tensor

from benchmark.methods.base import Method, Step
from benchmark.methods.kd import kd_loss
from benchmark.methods.options import MethodOptions


class Options(MethodOptions):
    """The temperature tells the runs apart."""

    temperature: float = Field(4.0, gt=0, description="divides both networks' logits")


class Paced(Method[Options]):
    """KD at a walking pace."""

    def loss(self, step: Step) -> Tensor:
        if Path(os.environ["PACE"]).exists():
            time.sleep(1.0)
        return kd_loss(step.student.logits, step.need_teacher().logits, self.options.temperature)
