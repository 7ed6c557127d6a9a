"""How many runs share a process: as asked for, and no more than fit. Imports no torch.

More students to a teacher's pass are always less work in total, so the only reasons for a smaller
pack are its memory and, if the size is left open, the time limit of a job.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmark.base.errors import UserError
from benchmark.planning.estimate import History, read_history
from benchmark.planning.packs import DEFAULT_PACK, Sizer, chunks
from benchmark.run.identity import Run


class Limits(NamedTuple):
    """What one process may use: hours in one go, megabytes of memory."""

    hours: float = math.inf
    memory_mb: float = math.inf


LimitsOf = Callable[[Run], Limits]


def no_limits(_: Run) -> Limits:
    """Return the limits if nothing is known of the machine."""
    return Limits()


class PackSize(NamedTuple):
    """What ``--pack`` says: a number of runs, or None to choose it.

    ``asked``: somebody wants this number; a mere guess of memory then does not lower it.
    """

    most: int | None
    asked: bool = False

    def sizer(
        self,
        runs_dir: Path,
        limits: LimitsOf = no_limits,
        killed: Mapping[str, int] | None = None,
    ) -> Sizer:
        """Return the size of a pack for each group of runs that could share one.

        A number is lowered if packs that were measured would not fit the memory, the default
        one also if they would not by a guess. ``auto`` takes as many runs as were measured to
        end within the time limit and to fit the memory; if not all were measured, the default
        number, or as many as fit by a guess. ``killed``: by key, how many runs shared the process
        that died for memory while it trained the run; half as many may share one now.
        """
        history = read_history(runs_dir)
        dead = killed or {}

        def size(group: Sequence[Run]) -> int:
            most = min((dead[run.key] // 2 for run in group if run.key in dead), default=len(group))
            return min(max(1, most), _largest(group, self, history, limits(group[0])))

        return size

    def __str__(self) -> str:
        return "a size chosen for each" if self.most is None else f"at most {self.most}"


def parse_pack_size(text: str) -> PackSize:
    """Read ``--pack``; the default if nothing is said.

    Raises UserError for anything but a positive number or ``auto``.
    """
    if text == "auto":
        return PackSize(None)
    if text == "":
        return PackSize(DEFAULT_PACK)
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) < 1:
        raise UserError(f"--pack {text}: expected a number of runs from 1 up, or auto")
    return PackSize(int(text), asked=True)


def _largest(group: Sequence[Run], wanted: PackSize, history: History, limits: Limits) -> int:
    most = wanted.most
    if most is None:
        most = len(group) if history.cost(group).measured == 1 else DEFAULT_PACK
    size = min(len(group), most)
    while size > 1 and not all(
        _fits(runs, wanted, history, limits) for runs in chunks(group, size)
    ):
        size -= 1
    return size


def _fits(runs: Sequence[Run], wanted: PackSize, history: History, limits: Limits) -> bool:
    cost = history.cost(runs)
    guessed = cost.measured < 1
    if wanted.most is None and not guessed and cost.hours > limits.hours:
        return False
    return cost.memory_mb <= limits.memory_mb or (guessed and wanted.asked)
