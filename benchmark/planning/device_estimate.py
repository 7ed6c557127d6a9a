"""How much of a cluster packs will use: hours of its GPUs or CPUs, memory, disk.

Imports no torch.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.base.files import existing_place
from benchmark.planning.estimate import Cost, History, read_history
from benchmark.planning.kept_answers import shared_questions
from benchmark.planning.modelled import Modelled
from benchmark.planning.packs import Pack
from benchmark.slurm.notation import gpu_count
from benchmark.slurm.profile import Resources


class Estimate(NamedTuple):
    """What packs will use; ``measured``: the share of runs that similar runs were found for.

    ``low`` and ``high`` are the factors of the range that the hours are expected in;
    ``memory_mb`` is the largest pack's, ``disk_mb`` that of all run directories, ``free_mb``
    what is free where they lie; ``source``: what the part that was not measured follows from.
    """

    gpu_hours: float
    cpu_hours: float
    longest_hours: float
    memory_mb: float
    disk_mb: float
    measured: float
    low: float
    high: float
    source: str
    free_mb: float = math.inf

    def words(self) -> str:
        """Return the estimate for people."""
        kind, amount = ("GPU", self.gpu_hours) if self.gpu_hours else ("CPU", self.cpu_hours)
        source = f"nothing like it was trained here yet: {self.source}"
        if self.measured == 1:
            source = "from runs of these networks that were measured here"
        elif self.measured:
            source = f"{self.measured:.0%} of it measured here, the rest by {self.source}"
        free = ""
        if self.disk_mb > self.free_mb:
            free = f"; WARNING: only {_round(self.free_mb / 1024)} GB are free there"
        low, high = (_time(amount * factor) for factor in (self.low, self.high))
        return (
            f"about {_time(amount, kind)} ({low} to {high}), the longest task"
            f" {_time(self.longest_hours)}, up to"
            f" {_round(self.memory_mb / 1024)} GB of memory a task and"
            f" {_round(self.disk_mb / 1024)} GB of disk ({source}){free}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the estimate for programs."""
        hours = self.gpu_hours or self.cpu_hours
        return {
            "gpu_hours": self.gpu_hours,
            "cpu_hours": self.cpu_hours,
            "range": [hours * self.low, hours * self.high],
            "longest_hours": self.longest_hours,
            "memory_mb": self.memory_mb,
            "disk_mb": self.disk_mb,
            "measured": self.measured,
            "source": self.source,
        }


def estimate(
    packs: Iterable[Pack],
    resources: Mapping[str, Resources],
    runs_dir: Path,
    data_dir: Path | None = None,
) -> Estimate:
    """Estimate what packs will use, from runs that have a result in ``runs_dir``."""
    history = read_history(runs_dir, data_dir)
    gpu = cpu = longest = memory = disk = found = hours = low = high = 0.0
    total, sources = 0, set()
    for pack in packs:
        cost = fill_cost(history, pack, data_dir) if pack.fills else history.cost(pack.runs)
        need = resources[pack.id]
        # Measured or guessed of one process; how well several share it was not measured.
        own = cost.hours / need.processes
        gpu += own * gpu_count(need.gpus) * need.nodes
        cpu += own * need.cpus * need.processes
        hours, low, high = hours + cost.hours, low + cost.low, high + cost.high
        longest, memory = max(longest, own), max(memory, cost.memory_mb)
        disk += cost.disk_mb
        found += cost.measured * len(pack.trained)
        total += len(pack.trained)
        sources.add(cost.source)
    whole = hours or 1.0
    return Estimate(
        gpu,
        cpu,
        longest,
        memory,
        disk,
        found / max(1, total),
        low / whole,
        high / whole,
        ", or ".join(sorted(sources)),
        _free_mb(runs_dir),
    )


def fill_cost(history: History, pack: Pack, data_dir: Path | None) -> Cost:
    """Estimate a pack that asks a teacher beforehand, by what was counted of its network."""
    first = pack.runs[0]
    (asked,) = shared_questions([replace(pack, fills=False)], data_dir)
    model = Modelled(first, asked.different, tests=0)
    hours, spread = model.epoch().teacher / 3600, model.spread
    size = asked.different * asked.row_bytes / 2**20
    memory = history.cost([first]).memory_mb
    return Cost(hours, memory, size, 0.0, hours / spread, hours * spread, model.rates.source)


def usual_resources(packs: Iterable[Pack]) -> dict[str, Resources]:
    """Return what packs ask for if no executor is known: threads, and a GPU if they want it."""
    found = {}
    for pack in packs:
        recipe = pack.runs[0].recipe
        found[pack.id] = Resources(recipe.threads, str(int(recipe.device == "cuda")), "0")
    return found


def _free_mb(path: Path) -> float:
    return shutil.disk_usage(existing_place(path)).free / 2**20


def _time(hours: float, kind: str = "") -> str:
    """Return an amount of time in the largest unit of which it has at least one."""
    units = (("hours", 1.0), ("minutes", 60.0), ("seconds", 3600.0))
    unit, size = next((u for u in units if hours * u[1] >= 1), units[-1])
    return f"{_round(hours * size)} {kind}{'-' if kind else ''}{unit}"


def _round(amount: float) -> str:
    return f"{amount:.0f}" if amount >= 10 else f"{amount:.2g}"
