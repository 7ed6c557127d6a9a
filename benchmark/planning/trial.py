"""Try, before anything is queued, whether runs can start at all: the front that needs no torch.

What was tried with success is remembered by cell in the user's cache folder, so that only new
cells cost anything; what was refused is tried again each time.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.files import make_directory, write_json
from benchmark.base.machine import own_cache_dir
from benchmark.base.words import count
from benchmark.data.datasets import dataset_info
from benchmark.data.sidecar import read_sidecar
from benchmark.run.identity import Run

_REMEMBERED = 100_000
_SCHEMA = 2  # raised where more is tried: what passed before is tried again


def check_trials(runs: Iterable[Run], data_dir: Path, plugins: Sequence[Path] = ()) -> None:
    """Refuse runs whose networks and methods cannot be built for each other, or for their data.

    Raises UserError for the first of them, with how many there are.
    """
    cells = {run.cell_key: run for run in runs if run.weights is None}
    path = own_cache_dir() / "trials.json"
    passed = _remembered(path)
    fresh = {key: run for key, run in cells.items() if key not in passed}
    if not fresh:
        return
    images = {name: _num_train(name, data_dir) for name in {r.dataset.name for r in fresh.values()}}
    problems = _tried(list(fresh.values()), images, plugins)
    good = [key for key in fresh if key not in problems]
    with contextlib.suppress(OSError, UserError):  # without it the next submission takes longer
        make_directory(path.parent)
        write_json(path, {"schema": _SCHEMA, "passed": [*passed, *good][-_REMEMBERED:]})
    for key, problem in problems.items():
        others = len(problems) - 1
        more = f" (and {count(others, 'other cell')} cannot be trained)" if others else ""
        raise UserError(f"{cells[key].slug} cannot be trained: {problem}{more}")


def _tried(runs: list[Run], images: dict[str, int], plugins: Sequence[Path]) -> dict[str, str]:
    """Return why cells cannot be trained, by key; in a process of its own if torch is not here."""
    if "torch" in sys.modules:
        from benchmark.train.trial import problems

        return problems(runs, images)
    asked = {
        "plugins": [str(path.resolve()) for path in plugins],
        "images": images,
        "runs": [run.to_json() for run in runs],
    }
    command = [sys.executable, "-P", "-m", "benchmark.train.trial"]
    done = subprocess.run(
        command, input=json.dumps(asked), capture_output=True, text=True, check=False
    )
    try:
        found = json.loads(done.stdout)
    except ValueError:  # the trial itself failed, which says nothing about the runs
        return {}
    return {str(key): str(problem) for key, problem in found.items()}


def _num_train(dataset: str, data_dir: Path) -> int:
    sidecar = read_sidecar(dataset, data_dir)
    return (
        sidecar.splits["train"].num_samples
        if sidecar
        else dataset_info(dataset, data_dir=data_dir).num_train
    )


def _remembered(path: Path) -> dict[str, None]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        passed = found["passed"] if found["schema"] == _SCHEMA else ()
        return dict.fromkeys(str(key) for key in passed)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
