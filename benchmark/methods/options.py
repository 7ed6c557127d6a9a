"""The base of every method's typed options. Imports no torch."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

# What a method declares as a class attribute, or its options decide under the same name.
DECIDED = (
    "companions",
    "uses_images",
    "shares_student",
    "evaluates",
    "averaged",
    "reported",
    "wants_held_out",
)


class Planned(NamedTuple):
    """What planning knows of a run whose method's options may refuse it.

    ``num_stages``: of the student after its stem, 0 if it cannot be cut; ``pair``: the
    architecture of the column's teacher; ``image_size``: the side of the images; ``teacher``:
    whether the run has one; ``rate_cycles``: how often the learning rate falls anew.
    """

    student: str
    num_stages: int
    pair: str
    epochs: int
    batch_size: int
    holdout: int
    image_size: int
    num_classes: int
    teacher: bool
    rate_cycles: int = 1

    def no_branch(self, stage: int | None) -> str | None:
        """Return why branches cannot start from ``stage`` of the student, if they cannot.

        None stands for the last stage but one.
        """
        if self.num_stages == 0:
            return f"branches off after a stage, and {self.student} cannot be cut"
        if stage is not None and not 0 <= stage < self.num_stages:
            return (
                f"branches off after stage {stage}, but {self.student} has stages 0 (its stem) to"
                f" {self.num_stages}, and nothing branches off after the last"
            )
        return None


class MethodOptions(BaseModel):
    """Options of a method; the defaults are those of the method's own paper.

    A method that weights the cross-entropy on the labels declares ``ce_weight``; if it is
    not declared the weight is 1. What else depends on options is a property here, of the name
    that the method's class attribute has (``companions``, ``evaluates``, ...).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks that the method builds, by name; "student" and "pair" stand for theirs."""
        return ()

    def refuse(self, planned: Planned) -> str | None:
        """Return why these options do not suit a run, in words that follow the method's name."""
        return None

    def of_stages(self, num_stages: int) -> tuple[str, ...]:
        """Return the outputs that it has beside ``evaluates`` on a student of so many stages.

        ``num_stages``: after its stem, 0 if planning does not know them.
        """
        return ()


class GroupOptions(MethodOptions):
    """What methods share whose networks or branches learn beside the student."""

    @property
    def members(self) -> tuple[str, ...]:
        """The names of those beside the student."""
        raise NotImplementedError

    @property
    def evaluates(self) -> tuple[str, ...]:
        """All of them, and the ensemble."""
        return (*self.members, "ensemble")

    @property
    def averaged(self) -> tuple[str, ...]:
        """The student and all of them."""
        return ("student", *self.members)


class PeerOptions(GroupOptions):
    """Of whole networks, one architecture for all but the student."""

    num_networks: int = Field(2, ge=2, le=8, description="networks, the student among them")
    peer: str = Field("student", description="the others' architecture; pair: the teacher's")

    @property
    def networks(self) -> tuple[str, ...]:
        """The peers' architecture."""
        return (self.peer,)

    @property
    def members(self) -> tuple[str, ...]:
        """Every peer."""
        return numbered("peer", 1, self.num_networks - 1)

    @property
    def averaged(self) -> tuple[str, ...]:
        """All networks, if they are alike."""
        return super().averaged if self.peer == "student" else ()


class BranchOptions(GroupOptions):
    """Of copies of what follows a stage of the student, taught at temperature 3 and a ramp."""

    stage: int | None = Field(
        None, description="branches start from it (stem 0); the last but one if null"
    )
    temperature: float = Field(3.0, gt=0, description="divides all logits")
    ramp_epochs: int = Field(80, ge=0, description="epochs over which what they teach grows")

    @property
    def networks(self) -> tuple[str, ...]:
        """They are of the student's architecture."""
        return ("student",)

    def refuse(self, planned: Planned) -> str | None:
        """Refuse a stage that nothing can branch off from."""
        return planned.no_branch(self.stage)


class BranchOrNetworkOptions(BranchOptions):
    """Of branches, or of whole networks in their place."""

    form: Literal["branches", "networks"] = Field(
        "branches", description="the others start from a stage of the student, or are whole"
    )

    def refuse(self, planned: Planned) -> str | None:
        """Refuse a stage that nothing can branch off from, or that nothing is to."""
        if self.form == "branches":
            return super().refuse(planned)
        if self.stage is not None:
            return f"trains whole networks, so stage {self.stage} has no meaning; leave it out"
        return None


def numbered(word: str, first: int, last: int) -> tuple[str, ...]:
    """Return the names word<first> to word<last>."""
    return tuple(f"{word}{i}" for i in range(first, last + 1))


class AlphaOptions(MethodOptions):
    """Options of the thesis' methods: one alpha splits the loss between labels and teacher.

    Its equations 2, 45 and 48 put alpha on the cross-entropy and multiply the divergence by
    temperature squared; its algorithm boxes 1 and 2 put alpha on the divergence; equations 46
    and 47 write a logarithm with base 2. The grid is alpha 0.1, 0.3, 0.5 and temperature 2, 5,
    10, the best result is printed and which combination it was is not stated: the defaults are
    the grid's first values.
    """

    alpha: float = Field(0.1, ge=0, le=1, description="weight of one term; the other has the rest")
    alpha_on: Literal["ce", "kd"] = Field(
        "ce", description="which term alpha weights: cross-entropy (equations) or KD (boxes)"
    )
    temperature_squared: bool = Field(
        True, description="multiply the divergence by temperature squared (equation 2)"
    )
    log_base: Literal["e", "2"] = Field("e", description="base of the divergence's logarithm")

    @property
    def ce_weight(self) -> float:
        """The cross-entropy's weight."""
        return self.alpha if self.alpha_on == "ce" else 1.0 - self.alpha

    @property
    def kd_weight(self) -> float:
        """The divergence's weight."""
        return 1.0 - self.alpha if self.alpha_on == "ce" else self.alpha
