"""Zero-shot knowledge transfer: a student learns from a teacher without ever seeing an image.

Micaelli & Storkey 2019, "Zero-shot Knowledge Transfer via Adversarial Belief Matching"
(arXiv:1905.09768), algorithm 1: a generator makes images from noise on which teacher and student
disagree, the student learns to agree on them. No image and no label of the data set is read; the
test images are, to evaluate. As in polo5/ZeroShotKnowledgeTransfer@e24915d: for each batch of noise
one step of the generator, then ten of the student on the images made AFTER that step; KL(teacher ||
student) at temperature 1, divided by the number of classes (a mean over all entries); beside it 250
times the squared difference of normalised attention maps of all stages (the raw residual sums of
wide ResNets, as there); the generator's Adam at 1e-3, gradients clipped at 5. The student's Adam at
2e-3 with a cosine to zero over 80,000 batches of noise and the clipping are the recipe's
(``zskt_80``). A generator's step moves the student's batch statistics, since its pass is in train
mode.

The ten images of a batch of noise are equal, since the generator normalises by the batch: they are
made once here; there ten times, which moves its running statistics and nothing that is used.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.methods import _zskt_losses as losses
from benchmark.methods.base import MAIN, Entries, Method, Optim, Setup, Step
from benchmark.methods.options import MethodOptions, Planned
from benchmark.models.features import Features
from benchmark.models.parts import Frozen


class Options(MethodOptions):
    """The game between generator and student."""

    noise: int = Field(100, ge=1, description="numbers that an image is made of")
    generator_steps: int = Field(1, ge=1, description="steps of the generator on one noise")
    student_steps: int = Field(10, ge=1, description="steps of the student after them")
    attention_weight: float = Field(250.0, ge=0, description="weight of the attention maps")
    generator_lr: float = Field(1e-3, gt=0, description="Adam's rate for the generator")
    clip_norm: float = Field(5.0, gt=0, description="largest norm of the generator's gradient")

    def refuse(self, planned: Planned) -> str | None:
        """Refuse images that the generator cannot make."""
        if planned.image_size % 4:
            return f"makes images whose side is a multiple of 4, not {planned.image_size}"
        return None


class ZSKT(Method[Options]):
    """A generator against the student, with a frozen teacher between them."""

    uses_images = False
    teacher_maps = ()

    def __init__(self, setup: Setup, options: Options) -> None:
        super().__init__(setup, options)
        teacher = setup.need_teacher()
        self.teacher = Frozen(teacher.model)
        self._student = (setup.student.model,)
        self._batch_size = setup.batch_size
        pairs = self._pairs(setup.student.features, teacher.features)
        if options.attention_weight and any(s.shape[2:] != t.shape[2:] for s, t in pairs):
            raise UserError(
                f"zskt compares the attention maps of {setup.student.name} and {teacher.name},"
                " whose sizes differ; set zskt.attention_weight to 0"
            )
        self.generator = losses.make_generator(options.noise, setup.image_shape)

    @staticmethod
    def _pairs(student: Features, teacher: Features) -> list[tuple[Tensor, Tensor]]:
        return list(zip(student.stages[1:], teacher.stages[1:], strict=False))

    def optimizers(self) -> dict[str, Optim]:
        """Return the generator's Adam."""
        options = self.options
        parameters = list(self.generator.parameters())
        adam = Optim(parameters, "adam", options.generator_lr, 0.0, options.clip_norm)
        return {"generator": adam}

    def turns(self, step: Step) -> Iterator[Entries]:
        """Yield the generator's steps on one noise, then the student's on what it makes of it."""
        options = self.options
        device = self.teacher.head.weight.device
        noise = torch.randn(self._batch_size, options.noise, device=device)
        for _ in range(options.generator_steps):
            images = self.generator(noise)
            student = step.run(self._student[0], images)
            teacher = step.run(self.teacher, images)
            gap = losses.disagreement(student.logits, teacher.logits)
            yield {"generator": {"generator": -gap}}
        with torch.no_grad():
            images = self.generator(noise)
            teacher = step.run(self.teacher, images)
        for _ in range(options.student_steps):
            student = step.run(self._student[0], images)
            terms = {"student": losses.disagreement(student.logits, teacher.logits)}
            if options.attention_weight:
                pairs = self._pairs(student, teacher)
                own, theirs = [p[0] for p in pairs], [p[1] for p in pairs]
                terms["attention"] = options.attention_weight * losses.attention_loss(own, theirs)
            yield {MAIN: terms}
