"""The base of every method's typed options. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class MethodOptions(BaseModel):
    """Options of a method; the defaults are those of the method's own paper.

    A method that weights the cross-entropy on the labels declares ``ce_weight``; where it is
    not declared the weight is 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)


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
