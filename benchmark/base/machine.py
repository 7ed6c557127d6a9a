"""What this machine offers to jobs, found out without torch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path


def visible_cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0))


def memory_mb() -> float:
    """Return how many megabytes of memory this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20


@cache
def cpu_facts() -> Mapping[str, str]:
    """Return what /proc/cpuinfo says of the first processor, nothing where it cannot be read."""
    found: dict[str, str] = {}
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return found
    for name, _, value in (line.partition(":") for line in lines):
        found.setdefault(name.strip(), value.strip())
    return found


def visible_gpus() -> list[str]:
    """Return the NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them.

    Without that variable they are numbered from 0: in a container the numbers of the device
    files are the host's, not CUDA's.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return [str(number) for number, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]
    found = []
    for name in (part.strip() for part in chosen.split(",")):
        if not name.isdecimal() and not name.startswith(("GPU-", "MIG-")):
            break  # as CUDA does: what follows a wrong name is not visible
        found.append(name)
    return found


def default_device() -> str:
    """Return what ``device: auto`` means on this machine."""
    return "cuda" if visible_gpus() else "cpu"


def default_cluster() -> str:
    """Return the executor that is used if none is named."""
    return "slurm" if shutil.which("sbatch") else "local"


def own_cache_dir() -> Path:
    """Return this project's folder among the user's caches; it need not be there."""
    # Without a home there is no place for a cache, and none can be made below a device.
    return (own_folder("XDG_CACHE_HOME", "~/.cache") or Path(os.devnull)) / "kd-benchmark"


def own_folder(variable: str, usual: str) -> Path | None:
    """Return one of the user's base folders (XDG's), by its variable or as usual.

    None for a user without a home, and if the variable holds no absolute path.
    """
    path = Path(os.environ.get(variable) or os.path.expanduser(usual))
    return path if path.is_absolute() else None
