"""Relative KD (thesis): the teacher's top logit comes closer to the others, in four versions.

Thesis, section 2.3 and its algorithm boxes; not Relational KD (``rkd``). Two walks over a
sample's other logits in ascending order, each adding up their absolute values:

- lowering: the top logit loses the sum, as long as it stays at least the second highest (the
  logit that would push it under is left out);
- raising: the label's logit gains the sum until it is the highest.

Version 1: lowered if the teacher is right, all logits zero if it is wrong. Version 2: as 1,
but raised if it is wrong. Version 3: as 2, and every logit that was added or subtracted
becomes 0. Version 4: the top logit is lowered, whatever the label.

Where the thesis is ambiguous the reading is an option; the defaults follow its text: absolute
values (the box of version 1 prints signed ones: ``signed``); raising until the label leads
(the printed condition, read literally, stops after one or two additions: ``max_additions``);
the label's own logit is not walked (``walk_label``) nor zeroed (``zero_label``); version 4
lowers the predicted class (its box lowers the label's logit: ``lower``, then a wrong sample
stays unchanged). "Ascending" is read as ascending value, most negative first; ``order``
magnitude walks the logits nearest to zero first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.methods._logits import label_mask
from benchmark.methods._precision import full_precision
from benchmark.methods._thesis import LogBase, is_right, label_values, vanilla_divergence, walked
from benchmark.methods.base import Method, Step
from benchmark.methods.options import AlphaOptions


@dataclass(frozen=True)
class ThesisReading:
    """How the ambiguous parts of the thesis are read; see the options of the same names."""

    order: Literal["value", "magnitude"] = "value"
    signed: bool = False
    max_additions: int | None = None
    walk_label: bool = False
    zero_label: bool = False
    lower: Literal["predicted", "label"] = "predicted"

    def keys(self, logits: Tensor) -> Tensor:
        """Return what the walks sort by."""
        return logits if self.order == "value" else logits.abs()

    def skipped(self, mask: Tensor) -> Tensor:
        """Return which classes no walk takes: the moved one, unless it is walked too."""
        return torch.zeros_like(mask) if self.walk_label else mask


DEFAULT = ThesisReading()


def lowered(logits: Tensor, classes: Tensor, reading: ThesisReading) -> tuple[Tensor, Tensor]:
    """Return logits [B, K] with that of ``classes`` [B] lowered, and which were subtracted.

    It falls while it stays at least the second highest; if it is not the highest, absolute
    values leave it as it is.
    """
    mask = label_mask(logits, classes)
    spare = label_values(logits, classes) - logits.topk(2, dim=1).values[:, 1:]
    steps = logits if reading.signed else logits.abs()
    taken = walked(reading.keys(logits), steps, reading.skipped(mask), spare, undo_last=True)
    return logits - mask * steps.masked_fill(~taken, 0.0).sum(1, keepdim=True), taken


def raised(logits: Tensor, classes: Tensor, reading: ThesisReading) -> tuple[Tensor, Tensor]:
    """Return logits [B, K] with that of ``classes`` [B] raised, and which were added.

    It grows until it is the highest. Where all the others do not suffice it stays below.
    """
    mask = label_mask(logits, classes)
    missing = logits.amax(1, keepdim=True) - label_values(logits, classes)
    steps = logits.abs()
    taken = walked(
        reading.keys(logits),
        steps,
        reading.skipped(mask),
        missing,
        undo_last=False,
        max_steps=reading.max_additions,
    )
    return logits + mask * steps.masked_fill(~taken, 0.0).sum(1, keepdim=True), taken


def relative_logits(
    teacher: Tensor, labels: Tensor, version: int, reading: ThesisReading = DEFAULT
) -> Tensor:
    """Return the teacher's logits [B, K] as one of the four versions changes them."""
    if version == 4:
        moved = labels if reading.lower == "label" else teacher.argmax(1)
        return lowered(teacher, moved, reading)[0]
    right = is_right(teacher, labels)
    when_right, subtracted = lowered(teacher, labels, reading)
    if version == 1:
        return when_right.masked_fill(~right, 0.0)
    when_wrong, added = raised(teacher, labels, reading)
    changed = when_right.where(right, when_wrong)
    if version == 2:
        return changed
    used = subtracted.where(right, added)
    kept = torch.zeros_like(used) if reading.zero_label else label_mask(teacher, labels)
    return changed.masked_fill(used & ~kept, 0.0)


@full_precision
def relative_loss(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    version: int,
    temperature: float,
    squared: bool = True,
    log_base: LogBase = "e",
    reading: ThesisReading = DEFAULT,
) -> Tensor:
    """Return the divergence of logits [B, K] from the changed teacher."""
    changed = relative_logits(teacher, labels, version, reading)
    teacher_probs = F.softmax(changed / temperature, dim=1)
    return vanilla_divergence(student, teacher_probs, temperature, squared, log_base)


class Options(AlphaOptions):
    """Version and temperature, the readings of the boxes, and how alpha enters."""

    version: Literal[1, 2, 3, 4] = Field(1, description="which of the thesis' four versions")
    temperature: float = Field(2.0, gt=0, description="divides both networks' logits")
    order: Literal["value", "magnitude"] = Field(
        "value", description="walk the most negative logits first, or those nearest to zero"
    )
    signed: bool = Field(
        False, description="subtract signed logits, not absolute ones, when lowering"
    )
    max_additions: int | None = Field(
        None, ge=1, description="stop raising after so many (1 or 2: the printed condition)"
    )
    walk_label: bool = Field(False, description="the walks include the moved logit itself")
    zero_label: bool = Field(
        False, description="version 3 zeroes the label's logit too where it was walked"
    )
    lower: Literal["predicted", "label"] = Field(
        "predicted", description="which logit version 4 lowers"
    )


class RelativeKD(Method[Options]):
    """KD from the teacher's changed logits."""

    teacher_maps = ()

    def loss(self, step: Step) -> Tensor:
        """Return the weighted divergence."""
        options = self.options
        reading = ThesisReading(
            order=options.order,
            signed=options.signed,
            max_additions=options.max_additions,
            walk_label=options.walk_label,
            zero_label=options.zero_label,
            lower=options.lower,
        )
        divergence = relative_loss(
            step.student.logits,
            step.need_teacher().logits,
            step.labels,
            options.version,
            options.temperature,
            options.temperature_squared,
            options.log_base,
            reading,
        )
        return options.kd_weight * divergence
