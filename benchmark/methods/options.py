"""The base of every method's typed options. Imports no torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class MethodOptions(BaseModel):
    """Options of a method; the defaults are those of the method's own paper.

    A method that weights the cross-entropy on the labels declares ``ce_weight``; where it is
    not declared the weight is 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)
