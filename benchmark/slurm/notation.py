"""How Slurm writes things: times, amounts, sets of task numbers, and what a job is called.

A job is named ``bench-TABLE``; its comment says ``bench table=TABLE pack=PACK nonce=NONCE``.
While an array waits, PACK is its number of packs (``x120``); a task that starts writes its own
pack's label there. NONCE is unique to one array, so that an array can be found again if it was
taken but sbatch's answer was lost. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from benchmark.base.errors import UserError

_PREFIX = "bench-"
_COMMENT = re.compile(r"^bench table=(?P<table>\S+) pack=(?P<pack>\S+) nonce=(?P<nonce>\S+)$")

_MEGABYTES = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}


def minutes(text: str) -> float:
    """Return a time limit in minutes; infinity for UNLIMITED.

    Takes sbatch's spellings: ``minutes``, ``minutes:seconds``, ``hours:minutes:seconds``,
    ``days-hours``, ``days-hours:minutes``, ``days-hours:minutes:seconds``. Raises ValueError
    for any other text.
    """
    if text.lower() in ("unlimited", "infinite"):
        return float("inf")
    if not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", text):
        raise ValueError(
            f"'{text}' is not a time limit; write minutes, hours:minutes:seconds or"
            " days-hours, as sbatch does"
        )
    days, dash, clock = text.rpartition("-")
    fields = [int(field) for field in clock.split(":")]
    if dash:
        hours, mins, seconds = (*fields, 0, 0)[:3]
    elif len(fields) == 3:
        hours, mins, seconds = fields
    else:
        hours, (mins, seconds) = 0, (*fields, 0)[:2]
    return (int(days or 0) * 24 + hours) * 60 + mins + seconds / 60


def megabytes(text: str) -> float:
    """Return an amount of memory in megabytes; infinity for 0, which asks for the whole node.

    Raises ValueError for text that sbatch would not take.
    """
    match = re.fullmatch(r"(\d+)([KMGT]?)B?", text.upper())
    if not match:
        raise ValueError(f"'{text}' is not an amount of memory; write 4000M or 4G, as sbatch does")
    amount = int(match[1]) * _MEGABYTES[match[2] or "M"]
    return amount or float("inf")


def gpu_count(text: str) -> int:
    """Return the number of GPUs in ``2``, ``a100:2``, ``1g.5gb:2`` or ``a100``.

    Raises ValueError for other text.
    """
    match = re.fullmatch(r"(?:(?!\d+(?::|$))(\w[\w.+-]*)(?::(\d+))?|(\d+))", text)
    if not match:
        raise ValueError(f"'{text}' is not a number of GPUs; write 1 or a100:1, as sbatch does")
    return int(match[2] or match[3] or 1)


def gpu_type(text: str) -> str | None:
    """Return the type of GPU that ``a100:2`` asks for, None if any will do."""
    name = text.partition(":")[0]
    return None if name.isdigit() else name


def gpus_counted(tres: str) -> int:
    """Return the GPUs in ``cpu=1,mem=100M,gres/gpu=2``; some clusters count them by type alone."""
    found = dict(re.findall(r"(gres/gpu(?::[^=,]+)?)=(\d+)", tres))
    return int(found.get("gres/gpu", 0)) or sum(map(int, found.values()))


def gpus_asked(tres: str) -> int:
    """Return the number of GPUs in ``gres:gpu:a100:2``, as a job asked for them on each node."""
    found = re.findall(r"(?:^|[:/,])gpu(?::[^:=,]*[^:=,\d][^:=,]*)?[:=](\d+)", tres)
    return sum(map(int, found))


# -- sets of array tasks: 0-99,105,200-299:5%10 ---------------------------------------------------


@dataclass(frozen=True)
class IndexSet:
    """An ordered set of task numbers, held as disjoint ascending ranges.

    A pending array is one record however long it is, so its tasks are kept as ranges.
    """

    ranges: tuple[range, ...] = ()

    @classmethod
    def parse(cls, text: str) -> IndexSet:
        """Read Slurm's notation; the throttle after ``%`` is passed over.

        Raises UserError if the text is not such a list (or was cut short by Slurm).
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


def task_name(job: int, number: int, array: bool = True) -> str:
    """Return how Slurm's commands name a task: ``1234_5``, or ``1234`` if it is no array's."""
    return f"{job}_{number}" if array else str(job)


# -- names and comments of jobs -------------------------------------------------------------------


class Tag(NamedTuple):
    """What a job's comment says."""

    table: str
    pack: str
    nonce: str

    @property
    def job_name(self) -> str:
        """The job's name."""
        return _PREFIX + word(self.table)

    @property
    def comment(self) -> str:
        """The job's comment."""
        return f"bench table={word(self.table)} pack={word(self.pack)} nonce={self.nonce}"


def parse_tag(job_name: str, comment: str) -> Tag | None:
    """Return what a job is, None if it is not one of ours.

    sacct may have no comment (it keeps one only with AccountingStoreFlags=job_comment); the
    name alone then still tells the table.
    """
    if not job_name.startswith(_PREFIX):
        return None
    match = _COMMENT.match(comment)
    if match:
        return Tag(**match.groupdict())
    return Tag(job_name.removeprefix(_PREFIX), "", "")


def word(text: str) -> str:
    """Return text as one word that Slurm's commands print and take back unchanged."""
    return re.sub(r"[^\w.+-]+", "_", text)
