"""Where a result comes from: commit, versions, machine. Recorded at every start of a run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
from functools import cache
from typing import Any

import torch

from benchmark.base.machine import cpu_facts
from benchmark.base.origin import code_version

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "ffcv", "kd-benchmark")


def provenance() -> dict[str, Any]:
    """Return what can be said of this process, as JSON values."""
    failed = os.environ.get("BENCH_SETUP")
    return {
        **code_version(),
        **({"setup_failed": failed} if failed else {}),
        "versions": versions(),
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
def versions() -> dict[str, str]:
    """Return the versions of what numbers depend on."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpu_model() -> str:
    if not cpu_facts():
        return platform.processor()
    return cpu_facts().get("model name") or platform.machine()
