"""Sets of array task numbers as Slurm writes them: ``0-99,105,200-299:5%10``.

A pending array is one record however long it is, so its tasks are kept as ranges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from benchmark.base.errors import UserError


@dataclass(frozen=True)
class IndexSet:
    """An ordered set of task numbers, held as disjoint ascending ranges."""

    ranges: tuple[range, ...] = ()

    @classmethod
    def parse(cls, text: str) -> IndexSet:
        """Read Slurm's notation; the throttle after ``%`` is passed over.

        Raises UserError where the text is not such a list (or was cut short by Slurm).
        """
        try:
            parts = [_part(part) for part in text.partition("%")[0].split(",") if part]
        except ValueError as error:
            raise UserError(f"'{text}' is not a list of array tasks") from error
        return cls(tuple(sorted(parts, key=lambda part: part.start)))

    @classmethod
    def of(cls, numbers: Iterable[int]) -> IndexSet:
        """Build the set of given numbers, neighbours merged."""
        ranges: list[range] = []
        for number in sorted(set(numbers)):
            if ranges and ranges[-1].stop == number:
                ranges[-1] = range(ranges[-1].start, number + 1)
            else:
                ranges.append(range(number, number + 1))
        return cls(tuple(ranges))

    def __len__(self) -> int:
        return sum(len(part) for part in self.ranges)

    def __iter__(self) -> Iterator[int]:
        for part in self.ranges:
            yield from part

    def __contains__(self, number: object) -> bool:
        return any(number in part for part in self.ranges)

    def __str__(self) -> str:
        return ",".join(_text(part) for part in self.ranges)


def _part(text: str) -> range:
    bounds, _, step = text.partition(":")
    first, dash, last = bounds.partition("-")
    return range(int(first), int(last if dash else first) + 1, int(step or 1))


def _text(part: range) -> str:
    if len(part) == 1:
        return str(part.start)
    return f"{part.start}-{part[-1]}" + (f":{part.step}" if part.step != 1 else "")
