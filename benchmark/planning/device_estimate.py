"""How much of a cluster packs will use: hours of its GPUs or CPUs, memory, disk.

Imports no torch.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmark.base.files import existing_place
from benchmark.planning.estimate import read_history
from benchmark.planning.packs import Pack
from benchmark.slurm.notation import gpu_count
from benchmark.slurm.profile import Resources


class Estimate(NamedTuple):
    """What packs will use; ``measured``: the share of runs that similar runs were found for.

    ``memory_mb`` is the largest pack's, ``disk_mb`` that of all run directories, ``free_mb``
    what is free where they lie.
    """

    gpu_hours: float
    cpu_hours: float
    longest_hours: float
    memory_mb: float
    disk_mb: float
    measured: float
    free_mb: float = math.inf

    def words(self) -> str:
        """Return the estimate for people."""
        kind, amount = ("GPU", self.gpu_hours) if self.gpu_hours else ("CPU", self.cpu_hours)
        source = "a guess: nothing like it was trained here yet"
        if self.measured == 1:
            source = "from runs of these networks that were measured here"
        elif self.measured:
            source = f"{self.measured:.0%} of it measured here, the rest a guess"
        free = ""
        if self.disk_mb > self.free_mb:
            free = f"; WARNING: only {_round(self.free_mb / 1024)} GB are free there"
        return (
            f"about {_time(amount, kind)}, the longest task {_time(self.longest_hours)}, up to"
            f" {_round(self.memory_mb / 1024)} GB of memory a task and"
            f" {_round(self.disk_mb / 1024)} GB of disk ({source}){free}"
        )


def estimate(packs: Iterable[Pack], resources: Mapping[str, Resources], runs_dir: Path) -> Estimate:
    """Estimate what packs will use, from runs that have a result in ``runs_dir``."""
    history = read_history(runs_dir)
    gpu = cpu = longest = memory = disk = found = 0.0
    total = 0
    for pack in packs:
        cost = history.cost(pack.runs)
        need = resources[pack.id]
        gpu += cost.hours * gpu_count(need.gpus)
        cpu += cost.hours * need.cpus
        longest, memory = max(longest, cost.hours), max(memory, cost.memory_mb)
        disk += cost.disk_mb
        found += cost.measured * len(pack.runs)
        total += len(pack.runs)
    return Estimate(gpu, cpu, longest, memory, disk, found / max(1, total), _free_mb(runs_dir))


def _free_mb(path: Path) -> float:
    return shutil.disk_usage(existing_place(path)).free / 2**20


def _time(hours: float, kind: str = "") -> str:
    """Return an amount of time in the largest unit of which it has at least one."""
    units = (("hours", 1.0), ("minutes", 60.0), ("seconds", 3600.0))
    unit, size = next((u for u in units if hours * u[1] >= 1), units[-1])
    return f"{_round(hours * size)} {kind}{'-' if kind else ''}{unit}"


def _round(amount: float) -> str:
    return f"{amount:.0f}" if amount >= 10 else f"{amount:.2g}"
