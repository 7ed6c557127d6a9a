"""A stand-in for training: a chain of hashes, so that a step lost or done twice shows."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmark.cluster.survive import Interruption
from benchmark.cluster.task import Report, run_task


def chain(steps: int, value: str = "", first: int = 0) -> str:
    """The undisturbed result."""
    for step in range(first, steps):
        value = hashlib.sha256(f"{value}{step}".encode()).hexdigest()
    return value


def train(pack: dict[str, Any], interruption: Interruption) -> Report:
    folder = Path(pack["folder"])
    state_file = folder / f"{pack['label']}.state.json"
    state = {"step": 0, "value": "", "starts": 0}
    if state_file.exists():
        state = json.loads(state_file.read_text())
    state["starts"] += 1
    _write(state_file, state)
    if "fail" in pack:
        return Report(1, (pack["fail"],))
    first = state["step"]
    for step in range(first, pack["steps"]):
        if interruption and not pack.get("stubborn"):
            _write(state_file, state)
            moved = state["step"] > first and not pack.get("stuck")
            return Report(1, interrupted=True, advanced=moved)
        state = {**state, "step": step + 1, "value": chain(step + 1, state["value"], step)}
        # Slow enough to be disturbed once, then quick.
        time.sleep(pack["pause"] if state["starts"] == 1 else 0.01)
    _write(folder / f"{pack['label']}.result.json", state)
    return Report(0)


def _write(path: Path, content: dict[str, Any]) -> None:
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(content))
    draft.replace(path)


if __name__ == "__main__":
    raise SystemExit(run_task(Path(sys.argv[1]), train))
