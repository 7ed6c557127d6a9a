"""Train on this machine: in a queue of its own, in this terminal or apart from it."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.log import say
from benchmark.base.machine import default_device, memory_mb, visible_cpus, visible_gpus
from benchmark.base.words import count
from benchmark.planning.device_estimate import estimate
from benchmark.planning.pack_size import Limits
from benchmark.planning.precision import precision_note
from benchmark.run.identity import Run
from benchmark.slurm.profile import Resources
from benchmark.submission.crews import check_devices
from benchmark.submission.folder import Folder
from benchmark.submission.local_queue import need_of, run_queue
from benchmark.submission.marks import is_at_work, reasons
from benchmark.submission.sent import latest, local_work
from benchmark.submission.submission import Prepared, Queue, Submission, summary


@dataclass(frozen=True)
class LocalExecutor:
    """Queues packs on this machine."""

    device: str
    name: str = "local"
    runs_dir: Path | None = None
    data_dir: Path | None = None

    def limits(self, run: Run) -> Limits:
        """Return the share of this machine's memory that one of the packs at a time has."""
        cpus = visible_cpus()
        gpus = len(visible_gpus())
        need = need_of(run, cpus, gpus)
        at_a_time = gpus // need.gpus if need.gpus else cpus // need.cpus
        return Limits(memory_mb=memory_mb() / max(1, at_a_time))

    def queue(self, runs_dir: Path) -> Queue:
        """Return which packs died without a word, perhaps for memory.

        What living processes have is known from their leases.
        """
        works = latest(local_work(runs_dir)).values()
        dead = [work for work in works if work.id in reasons(work.folder)]
        return Queue(killed={key: len(work.keys) for work in dead for key in work.keys})

    def prepare(self, submission: Submission, queue: Queue) -> Prepared:
        """Say how much is trained, and on what. Raises UserError if a GPU is needed and missing."""
        cpus, gpus = visible_cpus(), visible_gpus()
        check_devices(submission.packs, gpus)
        where = count(cpus, "CPU") + (f" and {count(len(gpus), 'GPU')}" if gpus else "")
        needs = {pack.id: need_of(pack.runs[0], cpus, len(gpus)) for pack in submission.packs}
        shares = {name: Resources(need.cpus, str(need.gpus), "0") for name, need in needs.items()}
        lines = (
            f"{summary(submission.packs)} on {where}",
            estimate(submission.packs, shares, submission.runs_dir, submission.data_dir).words(),
        )
        note = precision_note(run for pack in submission.packs for run in pack.runs)
        return Prepared((*lines, *([note] if note else [])), partial(_send, submission))


def executor(profile: str | None = None) -> LocalExecutor:
    """Return the executor."""
    return LocalExecutor(default_device())


def _send(submission: Submission, wait: bool) -> int:
    """Run the queue here (``wait``), or in a process of its own that survives logout."""
    if not submission.packs:
        return 0
    submission.write("local")
    if wait:
        say(
            "this terminal runs the queue: closing it stops the training, and submitting again"
            " continues it"
        )
        return run_queue(submission)
    return _detach(submission.folder)


def _detach(folder: Folder) -> int:
    with folder.writing(folder.queue_log) as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "benchmark.cli.job", "queue", str(folder.path)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    # Until it shows that it lives, submitting again would queue the same runs twice.
    while not is_at_work(folder.path):
        if process.poll() is not None:
            if process.returncode == 0:
                break  # it was that quick
            raise UserError(f"the queue could not be started; its log: {folder.queue_log}")
        time.sleep(0.05)
    say(
        f"the queue runs in process {process.pid}, apart from this terminal: it survives"
        " logout unless the system ends users' processes then"
    )
    say(f"log: {folder.queue_log}")
    return 0
