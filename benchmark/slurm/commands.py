"""Run Slurm's commands: the only place of the project that does.

Every call has a time-out and leaves a line in a call log, so that an operator can see what
the tool asks of slurmctld and how fast it answers. Imports no torch.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmark.base.errors import UserError
from benchmark.base.machine import own_folder
from benchmark.base.trust import own_name

# Slurm's own message time-out is 10 s by default and a refused connection is tried for 9 s.
TIMEOUT_SECONDS = 30.0
# How long a question is repeated for a person who waits for the answer.
PATIENCE_SECONDS = 5.0
_LOG_BYTES = 1_000_000

# What Slurm writes when a daemon did not answer in time, or not at all.
_BUSY = re.compile(
    r"Socket timed out|temporarily unable|Resource temporarily unavailable|"
    r"Connection reset|Transport endpoint|Unexpected missing socket",
    re.IGNORECASE,
)
_DOWN = re.compile(
    r"Unable to contact slurm controller|Connection refused|Connection timed out|"
    r"No route to host|slurmdbd.*(Connection refused|not responding)|DBD_\w+ failure",
    re.IGNORECASE,
)
# A slurmctld that cannot read the sender's credential closes the connection without a word.
_MUNGE = re.compile(r"munge|authentication|credential|Zero Bytes were transmitted", re.IGNORECASE)
_CONFIG = re.compile(r"Unable to process configuration|cannot stat file|fetch config", re.I)


class SlurmError(UserError):
    """A Slurm command did not do what it was asked."""


class SlurmUnreachableError(SlurmError):
    """Slurm did not answer: it may answer later, and may have taken what was sent."""


class Reply(NamedTuple):
    """What a command answered; ``code`` is None if it was ended by the time-out."""

    code: int | None
    out: str
    err: str
    seconds: float

    @property
    def unreachable(self) -> bool:
        """Whether the daemon behind the command did not answer."""
        if self.code is None:
            return True
        return self.code != 0 and bool(_BUSY.search(self.err) or _DOWN.search(self.err))


def environment() -> dict[str, str]:
    """Return the environment for Slurm's commands.

    Variables that change what a command asks for or how it prints are left out: a submission
    is what its script says. Times are printed as seconds since 1970 and lists of array tasks
    at full length.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not re.match(r"(SBATCH|SQUEUE|SACCT|SINFO|SCANCEL|SLURM)_", name)
        or name in ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS")
    }
    # A task asks its own cluster, for which it need not name it, and so need not reach slurmdbd.
    if kept.get("SLURM_CLUSTERS") == os.environ.get("SLURM_CLUSTER_NAME"):
        kept.pop("SLURM_CLUSTERS", None)
    return {**kept, "SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"}


def call(command: Sequence[str], timeout: float = TIMEOUT_SECONDS) -> Reply:
    """Run one command once.

    Raises SlurmError if the command or its configuration does not exist; what it answered is
    for the caller.
    """
    if shutil.which(command[0]) is None:
        raise SlurmError(
            f"there is no {command[0]} on PATH: this machine has no Slurm commands; log in to a"
            " login node, load its Slurm module, or use --cluster local"
        )
    config = os.environ.get("SLURM_CONF")
    if config and not os.access(config, os.R_OK):  # the commands themselves would retry for 60 s
        raise SlurmError(f"SLURM_CONF names {config}, which does not exist or cannot be read")
    start = time.monotonic()
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=environment(),
            check=False,
        )
        reply = Reply(done.returncode, done.stdout, done.stderr, time.monotonic() - start)
    except subprocess.TimeoutExpired:
        reply = Reply(None, "", "", time.monotonic() - start)
    _log(command, reply)
    return reply


def ask(
    command: Sequence[str],
    timeout: float = TIMEOUT_SECONDS,
    patience: float | None = None,
) -> str:
    """Return what a command prints, repeating it while Slurm does not answer.

    For questions and for requests that may safely be sent twice. The pauses double, with
    jitter, until ``patience`` seconds (PATIENCE_SECONDS if it is None) have passed.

    Raises SlurmUnreachableError if no answer came, SlurmError if Slurm refused.
    """
    give_up = time.monotonic() + (PATIENCE_SECONDS if patience is None else patience)
    pause = 1.0
    while True:
        reply = call(command, timeout)
        if reply.code == 0:
            return reply.out
        if not reply.unreachable or time.monotonic() + pause > give_up:
            raise error(command, reply)
        time.sleep(pause * random.uniform(0.75, 1.25))
        pause *= 2


def error(command: Sequence[str], reply: Reply) -> SlurmError:
    """Return the error for a command that failed, as one clear line."""
    program = command[0]
    if reply.code is None:
        return SlurmUnreachableError(
            f"{program} gave no answer within {reply.seconds:.0f} s: slurmctld is busy or"
            " stopped; try again later"
        )
    said = refusal(reply.err)
    if _MUNGE.search(reply.err):
        return SlurmError(
            "Slurm does not accept this machine's credentials: munged is not running here, or"
            f" its key or clock differs from the cluster's ({program} says: {said})"
        )
    if _DOWN.search(reply.err):
        daemon = "slurmdbd" if program in ("sacct", "sacctmgr") else "slurmctld"
        return SlurmUnreachableError(
            f"{daemon} cannot be reached: it is down or restarting; try again later"
            f" ({program} says: {said})"
        )
    if _BUSY.search(reply.err):
        return SlurmUnreachableError(f"slurmctld is busy; try again later ({program}: {said})")
    if _CONFIG.search(reply.err):
        return SlurmError(f"Slurm's configuration cannot be read ({program} says: {said})")
    return SlurmError(f"{program} failed: {said}")


def refusal(stderr: str) -> str:
    """Return all that a command wrote to its standard error, in one line and without prefixes.

    What helps is in any of its lines: a site's plug-in speaks first, the name of a limit last.
    """
    prefix = r"^(\w+: )?(error: |fatal: )?(allocation failure: |Batch job submission failed: )?"
    lines = [re.sub(prefix, "", line.strip()) for line in stderr.splitlines()]
    return "; ".join(dict.fromkeys(line for line in lines if line)) or "no reason given"


class ClusterLimits(NamedTuple):
    """What the cluster allows, read live."""

    cluster: str
    version: str
    max_array_size: int  # tasks in one array, 0 if there are no arrays
    max_job_count: int  # tasks of everybody, pending ones included
    accounting: bool  # whether there is a slurmdbd for sacct to ask
    limits: bool = False  # whether those of accounts and QOS are enforced
    gpus_counted: bool = True  # whether sacct knows how many GPUs a job had

    @property
    def arrays(self) -> bool:
        """Whether this cluster takes job arrays."""
        return self.max_array_size > 0


def read_limits() -> ClusterLimits:
    """Read the cluster's limits from ``scontrol show config``."""
    text = ask(["scontrol", "show", "config"])
    found = dict(re.findall(r"^(\w+)\s*=\s*(.*?)\s*$", text, re.MULTILINE))
    most = re.search(r"\bmax_array_tasks=(\d+)", found.get("SchedulerParameters", ""))
    return ClusterLimits(
        cluster=found["ClusterName"],
        version=found["SLURM_VERSION"],
        max_array_size=min(int(found["MaxArraySize"]), int(most[1]) if most else 10**9),
        max_job_count=int(found["MaxJobCount"]),
        accounting=found["AccountingStorageType"].endswith("slurmdbd"),
        limits=bool(re.search(r"limits|safe", found.get("AccountingStorageEnforce", ""))),
        gpus_counted="gres/gpu" in found.get("AccountingStorageTRES", "")
        or "gpu" not in found.get("GresTypes", ""),
    )


# -- call log -----------------------------------------------------------------------------------


def state_dir() -> Path:
    """Return the user's private folder for the call log and caches.

    Raises OSError if it cannot be made; nothing in it is more than a convenience.
    """
    base = own_folder("XDG_STATE_HOME", "~/.local/state")
    if base is None:
        raise FileNotFoundError(errno.ENOENT, "this user has no home to keep state in")
    path = base / "bench"
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def call_log() -> Path:
    """Return the file that has a JSON line for every call: BENCH_CALL_LOG or the user's own."""
    chosen = os.environ.get("BENCH_CALL_LOG")
    return Path(chosen) if chosen else state_dir() / "slurm-calls.jsonl"


def _log(command: Sequence[str], reply: Reply) -> None:
    result = "ok"
    if reply.code is None:
        result = "timed out"
    elif reply.code != 0:
        result = f"exit {reply.code}: {refusal(reply.err)}"
    line: dict[str, str | float] = {
        "time": round(time.time(), 3),
        "user": own_name(),
        "command": shlex.join(command)[:400],
        "seconds": round(reply.seconds, 4),
        "result": result,
    }
    if "SLURM_JOB_ID" in os.environ:
        line["job"] = os.environ["SLURM_JOB_ID"]
    # A home directory that is full or read-only must not stop a job from requeueing itself.
    with contextlib.suppress(OSError):
        path = call_log()
        if path.exists() and path.stat().st_size > _LOG_BYTES:
            path.replace(path.with_name(path.name + ".1"))
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
