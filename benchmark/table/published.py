"""What sources print and say, as a table file holds it: numbers, expected misses, claims.

Imports no torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from benchmark.table.recipe import Number, Positive, Strict

Metric = Literal["top1", "top5"]
Percent = Annotated[Number, Field(ge=0, le=100)]
Statistic = Literal["last", "best", "median_of_finals", "mean_of_last_5", "unstated"]


class Other(Strict):
    """What another source prints for the same cell."""

    source: str
    value: Percent
    note: str | None = None


class Published(Strict):
    """One published number, in percent, with its source and what kind of number it is.

    ``value`` null: known to exist but unreadable or unknown. ``status`` says how it was read
    (the paper itself, another work's reprint); ``std`` and ``n`` where printed; ``stated_in``:
    where its authors say which epoch and how many runs it is, else where it is printed.
    ``origin``: whose experiment it is, if a row mixes several; numbers of one origin share what
    is unstated of them.
    """

    value: Percent | None
    source: str
    status: str = "printed"
    statistic: Statistic = "unstated"
    std: Annotated[Number, Field(ge=0)] | None = None
    n: Positive | None = None
    stated_in: str | None = None
    origin: str | None = None
    others: tuple[Other, ...] = ()
    note: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_number(cls, data: Any) -> Any:
        if isinstance(data, int | float | str) and not isinstance(data, bool):
            raise ValueError("a published value needs a source: {value: .., source: ..}")
        return data


PublishedCell = dict[Metric, Published]


class UnstatedN(Strict):
    """As how many runs a published value counts if no number is stated, and why."""

    runs: Positive = 1
    note: str | None = None


class ExpectedMiss(Strict):
    """A published number that sources say does not reproduce; ``value`` is what they report."""

    row: str
    column: str
    metric: Metric = "top1"
    value: Percent
    reason: str
    source: str

    @property
    def why(self) -> str:
        """The reason with its source."""
        return f"{self.reason} ({self.source})"


class Expectation(Strict):
    """A claim in comparable form, about ``row`` in every column.

    One of: ``relation`` to each row of ``than``, by at least ``by`` points; ``about``, the points
    by which it is better than each of ``than`` (negative: worse), within the table's margin;
    ``above`` or ``below`` a printed number. ``columns`` limits it, ``tables`` extends it to the
    columns of these tables (this one only if named); ``at_least`` of the columns must agree (all
    unless given).
    """

    row: str
    relation: Literal["better", "worse", "not_worse"] | None = None
    about: Number | None = None
    above: Number | None = None
    below: Number | None = None
    than: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    tables: tuple[str, ...] = ()
    at_least: Positive | None = None
    by: Number = 0.0
    metric: Metric = "top1"

    @model_validator(mode="after")
    def _one_kind(self) -> Expectation:
        kinds = [self.relation, self.about, self.above, self.below]
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("needs exactly one of `relation`, `about`, `above` or `below`")
        if bool(self.than) != (self.relation is not None or self.about is not None):
            raise ValueError("`than` goes with `relation` and `about`, and only with these")
        if self.by and self.relation is None:
            raise ValueError("`by` goes with `relation` alone")
        if self.columns is not None and self.tables:
            raise ValueError("`columns` and `tables` do not go together")
        return self

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows that it speaks of."""
        return (self.row, *self.than)


class Claim(Strict):
    """A sentence of the paper about its table, and what it means for the numbers."""

    text: str
    expect: tuple[Expectation, ...]
    source: str

    @field_validator("expect", mode="before")
    @classmethod
    def _one_or_many(cls, data: Any) -> Any:
        return [data] if isinstance(data, dict) else data
