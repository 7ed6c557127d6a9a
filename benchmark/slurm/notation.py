"""Times and amounts of memory as sbatch spells them."""

from __future__ import annotations

import re

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
    """Return the number of GPUs in ``2``, ``a100:2`` or ``a100``; ValueError for other text."""
    match = re.fullmatch(r"(?:([A-Za-z][\w.-]*)(?::(\d+))?|(\d+))", text)
    if not match:
        raise ValueError(f"'{text}' is not a number of GPUs; write 1 or a100:1, as sbatch does")
    return int(match[2] or match[3] or 1)


def gpu_type(text: str) -> str | None:
    """Return the type of GPU that ``a100:2`` asks for, None where any will do."""
    name = text.partition(":")[0]
    return None if name.isdigit() else name
