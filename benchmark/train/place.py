"""Where a process stands among those that train one pack, as its starter says. Imports no torch.

torchrun and this machine's executors say it by RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and
MASTER_PORT, srun by SLURM_PROCID and its like.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from benchmark.base.errors import UserError


class Place(NamedTuple):
    """One of ``processes``, the ``local``-th on its machine.

    They find each other at ``host`` and ``port``; if the first one takes a free port, it says
    which in the ``meeting`` file. ``hosted``: somebody else (torchrun) listens there already.
    """

    process: int
    processes: int
    local: int
    host: str = "127.0.0.1"
    port: int = 0
    meeting: Path | None = None
    hosted: bool = False


def told(environment: Mapping[str, str] = os.environ) -> Place | None:
    """Return this process's place as torchrun says it, None for a process alone.

    Raises UserError if that is incomplete.
    """
    if int(environment.get("WORLD_SIZE", "1")) < 2:
        return None
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in names if name not in environment]
    if missing:
        raise UserError(f"WORLD_SIZE is set and {', '.join(missing)} is not: start with torchrun")
    process, processes, local, port = (
        int(environment[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")
    )
    hosted = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return Place(process, processes, local, environment["MASTER_ADDR"], port, hosted=hosted)


def in_step(folder: Path, environment: Mapping[str, str] = os.environ) -> Place | None:
    """Return this task's place in its step of Slurm, None for a task alone.

    ``folder`` is private, and visible on all nodes. MASTER_ADDR and MASTER_PORT are heeded where
    they are set, on clusters that let only some ports through.
    """
    processes = int(environment.get("SLURM_NTASKS", "1"))
    if processes < 2:
        return None
    process, local = int(environment["SLURM_PROCID"]), int(environment["SLURM_LOCALID"])
    if "MASTER_PORT" in environment and "MASTER_ADDR" in environment:
        host, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
        return Place(process, processes, local, host, port)
    job, restarts = environment["SLURM_JOB_ID"], environment.get("SLURM_RESTART_COUNT", "0")
    step = environment.get("SLURM_STEP_ID", "0")
    meeting = folder / f"meeting-{job}-{step}-{restarts}.json"
    return Place(process, processes, local, meeting=meeting)


def for_child(port: int, process: int, processes: int) -> dict[str, str]:
    """Return what tells a process of this machine its place."""
    return {
        "RANK": str(process),
        "WORLD_SIZE": str(processes),
        "LOCAL_RANK": str(process),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
