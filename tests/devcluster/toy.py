"""A stand-in for training where only the queue matters."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmark.run.pack_file import PackFile
from benchmark.slurm.survive import Interruption
from benchmark.submission.folder import Folder
from benchmark.submission.own_copy import leave_with_it
from benchmark.submission.task import TaskReport, run_task


def train(pack: PackFile, interruption: Interruption) -> TaskReport:
    folder = Path(os.environ["TOY"])
    toy = json.loads((folder / f"{pack.id}.toy.json").read_text())
    state_file = folder / f"{pack.id}.state.json"
    state = {"step": 0, "starts": 0}
    if state_file.exists():
        state = json.loads(state_file.read_text())
    state["starts"] += 1
    _write(state_file, state)
    if "fail" in toy:
        return TaskReport(1, (toy["fail"],))
    first = state["step"]
    for step in range(first, toy["steps"]):
        if interruption:
            _write(state_file, state)
            moved = state["step"] > first and not toy.get("stuck")
            return TaskReport(1, interrupted=True, advanced=moved)
        state = {**state, "step": step + 1}
        time.sleep(0.1)
    _write(folder / f"{pack.id}.result.json", state)
    return TaskReport(0)


def _write(path: Path, content: dict[str, Any]) -> None:
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(content))
    draft.replace(path)


if __name__ == "__main__":
    leave_with_it()
    time.sleep(float(os.environ.get("TOY_STARTS_FOR", "0")))  # as imports do
    folder, array = Folder(Path(sys.argv[1])), int(sys.argv[2])
    raise SystemExit(run_task(folder, array, train))
