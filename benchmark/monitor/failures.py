"""Failures that are alike are one group: its count, an example, and the log's last lines."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from benchmark.base.errors import UserError
from benchmark.base.files import open_regular
from benchmark.submission.marks import alike

_TAIL_BYTES = 16_384
_LINES = 3
_SAYS_NOTHING = re.compile(r"^srun: error: .* Exited with exit code \d+$")


class Failed(NamedTuple):
    """One run that failed, and the log of the pack it was in."""

    key: str
    reason: str
    log: Path | None
    task: str | None


class FailureGroup(NamedTuple):
    """Runs that failed alike; ``reason``, ``log`` and ``lines`` are those of the first."""

    reason: str
    runs: tuple[str, ...]
    task: str | None
    log: Path | None
    lines: tuple[str, ...]


def group(failed: Iterable[Failed]) -> tuple[FailureGroup, ...]:
    """Group failures by what their reasons have in common, the largest group first."""
    kinds: dict[str, list[Failed]] = {}
    for item in failed:
        kinds.setdefault(alike(item.reason), []).append(item)
    groups = []
    for items in sorted(kinds.values(), key=len, reverse=True):
        first = items[0]
        lines = last_lines(first.log, first.reason) if first.log is not None else ()
        keys = tuple(item.key for item in items)
        log = first.log if lines else None
        groups.append(FailureGroup(first.reason, keys, first.task, log, lines))
    return tuple(groups)


def last_lines(path: Path, reason: str = "", count: int = _LINES) -> tuple[str, ...]:
    """Return the last lines of a log that say something; none if it cannot be read.

    Those that say the ``reason`` itself, which is shown anyway, are left out.
    """
    try:
        with open_regular(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except (OSError, UserError):
        return ()
    lines = [line.rstrip() for line in text.replace("\r", "\n").split("\n")]
    told = [line for line in lines if line.strip() and not _SAYS_NOTHING.search(line)]
    if reason:
        told = [line for line in told if reason not in " ".join(line.split())]
    return tuple(told[-count:])
