"""Where what teachers answered is kept, and how much of it. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.trust import own_name

_FOLDER = ".answers"
_DEFAULT = "16G"
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def answers_root(runs_dir: Path) -> Path:
    """Return where this user's answers lie: what one user wrote no other one trusts."""
    return runs_dir / _FOLDER / own_name()


def answer_files(root: Path) -> Iterator[Path]:
    """Yield every file of answers below ``root``."""
    yield from sorted(root.glob("*/*.rows"))


def used(root: Path) -> int:
    """Return the bytes that all answers below ``root`` take of the disk, holes left out."""
    return sum(path.lstat().st_blocks * 512 for path in answer_files(root))


def limit() -> int:
    """Return how many bytes a user's answers may take: BENCH_TEACHER_ANSWERS, 16G by default.

    "off" or 0 keeps none. Raises UserError for what is no size.
    """
    text = os.environ.get("BENCH_TEACHER_ANSWERS", _DEFAULT).strip()
    if text.lower() == "off":
        return 0
    unit = _UNITS.get(text[-1:].upper())
    number = text[:-1] if unit else text
    if not number.isdecimal():
        raise UserError(f"BENCH_TEACHER_ANSWERS is '{text}', not a size such as 16G, or off")
    return int(number) * (unit or 1)
