"""How long packs will take: from what was measured on similar runs, else a guess.

Imports no torch.
"""

from __future__ import annotations

import heapq
import json
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.cluster.profile import Resources
from benchmark.cluster.units import gpu_count
from benchmark.data.datasets import DATASETS
from benchmark.packs import Pack
from benchmark.rundir import RunDir, all_rundirs
from benchmark.runs import Run

# Images of 32x32 pixels a second in one run, and in proportion to their side. Nothing that this
# was measured on is known about the cluster at hand, so it is only ever called a guess.
_GUESS = {"cuda": 3000.0, "cpu": 100.0}
_READ_AT_MOST = 1000
_Kind = tuple[str, ...]


class Estimate(NamedTuple):
    """What packs will use; ``measured``: the share of runs that similar runs were found for."""

    gpu_hours: float
    cpu_hours: float
    longest_hours: float
    measured: float

    def words(self) -> str:
        """Return the estimate for people."""
        if self.gpu_hours:
            amount = f"{_round(self.gpu_hours)} GPU-hours"
        else:
            amount = f"{_round(self.cpu_hours)} CPU-hours"
        source = "a guess: nothing like it was trained here yet"
        if self.measured == 1:
            source = "from runs that were measured here"
        elif self.measured:
            source = f"{self.measured:.0%} of it measured here, the rest a guess"
        return f"about {amount}, the longest task {_round(self.longest_hours)} hours ({source})"


def estimate(packs: Iterable[Pack], resources: Mapping[str, Resources], runs_dir: Path) -> Estimate:
    """Estimate what packs will use, from the epochs of runs that have a result in ``runs_dir``."""
    known = _measured(runs_dir)
    gpu = cpu = longest = 0.0
    found = total = 0
    for pack in packs:
        hours = 0.0
        for run in pack.runs:
            seconds = next((known[kind] for kind in _kinds(run) if kind in known), None)
            found += seconds is not None
            total += 1
            epochs = 0 if run.weights else run.recipe.epochs
            hours += epochs * (_guess(run) if seconds is None else seconds) / 3600
        need = resources[pack.id]
        gpu += hours * gpu_count(need.gpus)
        cpu += hours * need.cpus
        longest = max(longest, hours)
    return Estimate(gpu, cpu, longest, found / max(1, total))


def _measured(runs_dir: Path) -> dict[_Kind, float]:
    """Seconds an epoch by kind of run: the median over the newest results."""
    newest = heapq.nlargest(_READ_AT_MOST, _results(runs_dir), key=lambda item: item[0])
    found: dict[_Kind, list[float]] = {}
    for _, rundir in newest:
        try:
            cell = json.loads(rundir.cell.read_text(encoding="utf-8"))
            result = json.loads(rundir.result.read_text(encoding="utf-8"))
            kinds = _kinds_of(cell)
            epochs, seconds = int(result["epochs"]), float(result["own_seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # broken or foreign: collecting says so
        if epochs > 0 and seconds > 0:
            for kind in kinds:
                found.setdefault(kind, []).append(seconds / epochs)
    return {kind: statistics.median(values) for kind, values in found.items()}


def _results(runs_dir: Path) -> Iterable[tuple[float, RunDir]]:
    for rundir in all_rundirs(runs_dir):
        try:
            yield rundir.result.stat().st_mtime, rundir
        except OSError:
            continue


def _kinds(run: Run) -> list[_Kind]:
    return _kinds_of(run.to_json())


def _kinds_of(cell: dict[str, Any]) -> list[_Kind]:
    """What makes runs similar, the closest first."""
    place = (cell["recipe"]["device"], cell["dataset"]["name"], str(cell["recipe"]["input_size"]))
    teacher = cell["teacher"]["model"] if cell["teacher"] else ""
    methods = [method["name"] for method in cell["methods"]]
    return [(*place, cell["model"], teacher, *methods), (*place, cell["model"]), place]


def _guess(run: Run) -> float:
    """Seconds an epoch where nothing is known."""
    info = DATASETS[run.dataset.name]
    side = run.recipe.input_size or info.image_size
    rate = _GUESS.get(run.recipe.device, _GUESS["cpu"])
    return info.num_train / rate * side / 32


def _round(hours: float) -> str:
    return f"{hours:.0f}" if hours >= 10 else f"{max(hours, 0.1):.1f}"
