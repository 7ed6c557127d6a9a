"""What this machine offers to jobs, found out without torch."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def visible_cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0))


def visible_gpus() -> list[int]:
    """Return the indices of the NVIDIA GPUs that this process may use."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [int(part) for part in chosen.split(",") if part.strip().isdigit()]
    return [
        int(path.name.removeprefix("nvidia")) for path in sorted(Path("/dev").glob("nvidia[0-9]*"))
    ]


def default_device() -> str:
    """Return what ``device: auto`` means on this machine."""
    return "cuda" if visible_gpus() else "cpu"


def default_cluster() -> str:
    """Return the executor that is used where none is named."""
    return "slurm" if shutil.which("sbatch") else "local"
