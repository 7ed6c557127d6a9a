"""How the learning rate moves: the schedules that a recipe may name."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0)]
Positive = Annotated[int, Field(strict=True, ge=1)]
Rate = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Unit = Literal["epoch", "iteration"]


class Strict(BaseModel):
    """The base of all specifications: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Grown(Strict):
    """A specification that got fields after runs had been made: ``later`` names them.

    They are neither written nor hashed while they have their default, so that those runs keep
    their keys.
    """

    later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _as_before(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = serialise(self)
        fields = type(self).model_fields
        for name in self.later:
            if getattr(self, name) == fields[name].default:
                data.pop(name, None)
        return data


class Milestones(Grown):
    """Multiply the rate by ``gamma`` after each milestone.

    Epochs count from 1 and the new rate first applies in the epoch after a milestone: with
    milestones 150, 180, 210 in epochs 151, 181 and 211. The rate rises step by step from 0 over
    the first ``warmup_epochs``.
    """

    kind: Literal["milestones"] = "milestones"
    milestones: tuple[Positive, ...]
    gamma: Rate = 0.1
    warmup_epochs: Count = 0
    later: ClassVar[frozenset[str]] = frozenset({"warmup_epochs"})


class Plateau(Strict):
    """Multiply the rate by ``factor`` when the evaluated accuracy has not improved.

    It has not improved for ``patience`` evaluations; after ``stop_patience`` evaluations
    without a better one the run ends early.
    """

    kind: Literal["plateau"]
    factor: Rate = 0.5
    patience: Positive = 2
    stop_patience: Positive | None = 3


class Cosine(Grown):
    """Linear warm-up, then a cosine to ``min_lr``; what published code differs in are options.

    ``warmup_epochs`` or ``warmup_steps`` (optimiser steps) rise from ``warmup_lr`` to the
    recipe's rate. ``per``: the rate is set once an epoch, or before every optimiser step;
    ``warmup_per``: the same for the warm-up alone if it differs. ``warmup`` before: the cosine
    starts after it and spans the rest; within: the cosine has begun with the run and the warm-up
    replaces its beginning (timm, DeiT, the projector paper, CivT). ``late``: by how many epochs
    or steps every rate comes late (1 if a script steps its schedule after the first use:
    DeiT by an epoch, the projector paper by an iteration). ``warmup_closed``: the last step of
    the warm-up has the full rate already (mmengine). ``cycles``: so many cosines one after the
    other, each as long as the whole epochs or steps that divide the run; what is left over begins
    one more (snapshot distillation).
    """

    kind: Literal["cosine"]
    warmup_epochs: Count = 0
    warmup_lr: Number = 0.0
    min_lr: Number = 0.0
    warmup_steps: Count | None = None
    per: Unit = "epoch"
    warmup_per: Unit | None = None
    warmup: Literal["before", "within"] = "before"
    warmup_closed: bool = False
    late: Count = 0
    cycles: Positive = 1
    later: ClassVar[frozenset[str]] = frozenset(
        {"warmup_steps", "per", "warmup_per", "warmup", "warmup_closed", "late", "cycles"}
    )

    @model_validator(mode="after")
    def _cycles_alone(self) -> Cosine:
        if self.cycles > 1 and (self.warmup_epochs or self.warmup_steps or self.late):
            raise ValueError("cycles go without a warm-up and without `late`")
        return self

    @model_validator(mode="after")
    def _one_warmup(self) -> Cosine:
        if self.warmup_steps is not None and self.warmup_epochs:
            raise ValueError("warmup_epochs and warmup_steps are both given")
        stepwise = (self.warmup_per or self.per) == "iteration"
        if self.warmup_steps is not None and not stepwise:
            raise ValueError("warmup_steps needs a warm-up per iteration")
        return self
