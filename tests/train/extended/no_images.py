"""A generator looks for images on which student and teacher differ; the student learns on them."""

from collections.abc import Iterator

import torch
from torch import nn

from benchmark.methods.base import Entries, Method, Optim, Setup, Step
from benchmark.methods.kd import kd_loss
from benchmark.methods.options import MethodOptions


class Options(MethodOptions):
    """None."""


class NoImages(Method[Options]):
    """One step of the generator and two of the student in every step."""

    uses_images = False
    teacher_maps = ()

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        self._networks = (setup.student.model, setup.need_teacher().model)
        self._size = setup.batch_size
        self.generator = nn.Sequential(nn.Linear(8, 3 * 64), nn.BatchNorm1d(3 * 64))

    def optimizers(self) -> dict[str, Optim]:
        """The generator's."""
        return {"generator": Optim(list(self.generator.parameters()), "adam", lr=1e-3)}

    def turns(self, step: Step) -> Iterator[Entries]:
        """Yield the generator's update, then two of the student on one batch made after it."""
        student, teacher = self._networks
        noise = torch.randn(self._size, 8, device=step.images.device)
        made = self._make(noise, step)
        theirs = step.run(teacher, made).logits
        yield {"generator": {"fool": -kd_loss(step.run(student, made).logits, theirs, 1.0)}}
        with torch.no_grad():
            made = self._make(noise, step)
            theirs = step.run(teacher, made).logits
        for _ in range(2):
            yield {"main": {"match": kd_loss(step.run(student, made).logits, theirs, 1.0)}}

    def _make(self, noise: torch.Tensor, step: Step) -> torch.Tensor:
        small = self.generator(noise).view(self._size, 3, 8, 8)
        return nn.functional.interpolate(small, size=step.images.shape[2:])
