"""Where a result comes from: commit, versions, machine. Recorded at every start of a run."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import socket
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmark.base.git import git

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "ffcv", "kd-benchmark")


def provenance() -> dict[str, Any]:
    """Return what can be said of this process, as JSON values."""
    return {
        **code_version(),
        "versions": _versions(),
        "python": platform.python_version(),
        "host": socket.gethostname(),
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "slurm_array_job": os.environ.get("SLURM_ARRAY_JOB_ID"),
        "slurm_array_task": os.environ.get("SLURM_ARRAY_TASK_ID"),
        "slurm_restart": os.environ.get("SLURM_RESTART_COUNT"),
    }


@cache
def code_version() -> dict[str, Any]:
    """Return the commit and a digest of what differs from it; None outside a repository.

    A snapshot made at submission says its commit through BENCH_COMMIT and BENCH_DIRTY.
    """
    if "BENCH_COMMIT" in os.environ:
        return {
            "commit": os.environ["BENCH_COMMIT"] or None,
            "dirty": os.environ.get("BENCH_DIRTY") or None,
        }
    root = Path(__file__).resolve().parents[2]
    commit = git(root, "rev-parse", "HEAD")
    changes = git(root, "diff", "HEAD") if commit else None
    dirty = hashlib.sha256(changes.encode()).hexdigest()[:12] if changes else None
    return {"commit": commit, "dirty": dirty}


@cache
def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@cache
def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
