"""A stand-in for training where only the queue matters."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmark.slurm.survive import Interruption
from benchmark.submission.task import Report, run_task


def train(pack: dict[str, Any], interruption: Interruption) -> Report:
    folder = Path(pack["folder"])
    state_file = folder / f"{pack['label']}.state.json"
    state = {"step": 0, "starts": 0}
    if state_file.exists():
        state = json.loads(state_file.read_text())
    state["starts"] += 1
    _write(state_file, state)
    if "fail" in pack:
        return Report(1, (pack["fail"],))
    first = state["step"]
    for step in range(first, pack["steps"]):
        if interruption:
            _write(state_file, state)
            moved = state["step"] > first and not pack.get("stuck")
            return Report(1, interrupted=True, advanced=moved)
        state = {**state, "step": step + 1}
        time.sleep(pack["pause"])
    _write(folder / f"{pack['label']}.result.json", state)
    return Report(0)


def _write(path: Path, content: dict[str, Any]) -> None:
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(content))
    draft.replace(path)


if __name__ == "__main__":
    time.sleep(float(os.environ.get("TOY_STARTS_FOR", "0")))  # as imports do
    raise SystemExit(run_task(Path(sys.argv[1]), train))
