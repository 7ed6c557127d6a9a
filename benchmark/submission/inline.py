"""Train in this process, one pack after the other."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.log import say
from benchmark.base.machine import default_device, memory_mb, visible_cpus, visible_gpus
from benchmark.planning.device_estimate import estimate
from benchmark.planning.pack_size import Limits
from benchmark.planning.precision import precision_note
from benchmark.run.identity import Run
from benchmark.slurm.profile import Resources
from benchmark.submission.crews import check_devices, check_replicas, processes_of
from benchmark.submission.folder import Folder
from benchmark.submission.marks import at_work, note_stop, paused
from benchmark.submission.submission import Prepared, Queue, Submission, summary
from benchmark.submission.task import stop_on_signal, train_in_processes
from benchmark.submission.together import lead
from benchmark.train.place import told

_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class InlineExecutor:
    """Runs packs here and now; Ctrl-C saves the state and leaves, a second one leaves at once."""

    device: str
    name: str = "inline"
    runs_dir: Path | None = None
    data_dir: Path | None = None

    def limits(self, run: Run) -> Limits:
        """Return the memory of this machine."""
        return Limits(memory_mb=memory_mb())

    def queue(self, runs_dir: Path) -> Queue:
        """Return an empty queue: nothing outlives this process."""
        return Queue()

    def prepare(self, submission: Submission, queue: Queue) -> Prepared:
        """Say what will be trained. Raises UserError if a GPU is needed and missing."""
        gpus = len(found := visible_gpus())
        check_devices(submission.packs, found)
        place = told()
        shares = {}
        for pack in submission.packs:
            run = pack.runs[0]
            processes = place.processes if place else processes_of(run, gpus)
            check_replicas(run, processes)
            shares[pack.id] = Resources(visible_cpus(), str(min(processes, gpus)), "0")
        where = f"in {place.processes} processes" if place else "in this process"
        lines = (
            f"{summary(submission.packs)}, {where}",
            estimate(submission.packs, shares, submission.runs_dir, submission.data_dir).words(),
        )
        note = precision_note(run for pack in submission.packs for run in pack.runs)
        return Prepared((*lines, *([note] if note else [])), partial(_train, submission))


def executor(profile: str | None = None) -> InlineExecutor:
    """Return the executor."""
    return InlineExecutor(default_device())


def _train(submission: Submission, wait: bool) -> int:
    """Train every pack; there is nothing to wait for afterwards."""
    place = told()
    if submission.packs:
        submission.write("inline")
    if place is not None:  # the others wait, also if there is nothing to train
        return lead(submission.files(), place)
    if not submission.packs:
        return 0
    stops = stop_on_signal(signal.SIGINT, signal.SIGTERM, insisting=_leave)
    with at_work(submission.folder.path), stops as asked:
        try:
            code = _train_all(submission, asked)
        finally:
            if asked:
                note_stop(submission.folder, asked["why"])
    if asked and code:
        say("submit again to continue")
    return code


def _train_all(submission: Submission, asked: dict[str, str]) -> int:
    code = 0
    for number, pack in enumerate(submission.files()):
        _wait_while_paused(submission.folder, asked)
        if asked:
            say(f"stopped: {asked['why']}")
            return 1
        try:
            processes = processes_of(pack.runs[0], len(visible_gpus()))
            folder = submission.folder.path
            outcome = train_in_processes(pack, folder, number, processes, asked)
        except UserError as error:  # this pack's; the others may be well
            say(f"{pack.label}: {error}")
            code = 1
            continue
        code = max(code, outcome.exit_code)
    return code


def _wait_while_paused(folder: Folder, asked: Mapping[str, str]) -> None:
    """Return once `bench resume` lets the next pack start, or when asked to stop."""
    told = False
    while not asked and (reason := paused(folder)) is not None:
        if not told:
            say(f"{reason}; `bench resume` continues")
        told = True
        time.sleep(_POLL_SECONDS)


def _leave() -> None:
    raise KeyboardInterrupt
