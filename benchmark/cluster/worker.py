"""The job of a queue of this machine as an earlier version started it: a file a pack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.submission.folder import Folder
from benchmark.submission.task import run_pack_in_job as run_by_number


def run_pack_in_job(path: str, gpus: Sequence[str]) -> dict[str, Any]:
    """Train the pack of a file; what it returns crosses processes as plain data."""
    folder = Folder(Path(path).parent.parent)
    folder.modernise()
    ids = [entry.id for entry in folder.entries(0)]
    return run_by_number(folder.path, ids.index(Path(path).stem), gpus)
