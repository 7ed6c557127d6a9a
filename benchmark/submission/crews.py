"""Several processes of this machine for one pack: how many, and how the first starts the others.

The first is the job itself. The others are told its port, read their pack in the submission's
folder as it does, and end with it. Imports no torch.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.planning.packs import Pack
from benchmark.run.identity import Run
from benchmark.train.place import Place, for_child

_LEAVING_SECONDS = 60.0


def processes_of(run: Run, gpus: int) -> int:
    """Return how many processes of this machine train a run if it may use so many GPUs.

    One for each GPU that its replicas can use; on the CPU one. BENCH_PROCESSES says otherwise.
    Raises UserError if that is no number, or more than there are replicas or GPUs.
    """
    replicas, cuda = run.recipe.replicas, run.recipe.device == "cuda"
    asked = os.environ.get("BENCH_PROCESSES")
    if not asked:
        return max(1, min(replicas, gpus)) if cuda else 1
    if not asked.isdecimal() or int(asked) < 1:
        raise UserError(f"BENCH_PROCESSES is '{asked}', which is no number of processes")
    check_replicas(run, int(asked))
    if cuda and int(asked) > gpus:
        raise UserError(f"BENCH_PROCESSES {asked} is more than the {gpus} GPUs of this machine")
    return int(asked)


def check_replicas(run: Run, processes: int) -> None:
    """Raise UserError if a run has fewer replicas than there are processes."""
    replicas = run.recipe.replicas
    if processes > replicas:
        raise UserError(
            f"{processes} processes are more than the {replicas} replica{'s' * (replicas > 1)} of"
            f" {run.slug}; set recipe.replicas, or start fewer"
        )


def check_devices(packs: Iterable[Pack], gpus: Sequence[str]) -> None:
    """Raise UserError if a pack needs a GPU and this machine shows none."""
    for pack in packs:
        if pack.runs[0].recipe.device == "cuda" and not gpus:
            raise UserError(
                f"{pack.label} wants a CUDA device and this machine shows none;"
                " add --set recipe.device=cpu to train on the CPU"
            )


class Helpers:
    """The other processes of a pack; a context that ends them with itself."""

    def __init__(self, folder: Path, number: int, processes: int) -> None:
        self.place = Place(0, processes, 0)
        self._command = [sys.executable, "-P", "-u", "-m", "benchmark.cli.job", "follow"]
        self._command += [str(folder), str(number)]
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, port: int) -> None:
        """Start them, to come to the first one's port."""
        for process in range(1, self.place.processes):
            own = os.environ | for_child(port, process, self.place.processes)
            self._started.append(subprocess.Popen(self._command, stdin=subprocess.DEVNULL, env=own))

    def missing(self) -> str | None:
        """Return what became of one that has ended, if one has."""
        for number, process in enumerate(self._started, start=1):
            code = process.poll()
            if code is not None:
                how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
                return f"process {number} of the run ended at its start ({how})"
        return None

    def __enter__(self) -> Helpers:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LEAVING_SECONDS)
            if process.poll() is None:
                process.kill()
                process.wait()
