"""Train on this machine: submitit starts the processes, the queue is ours.

submitit's local executor starts everything at once; here a pack waits until its teacher's pack
ended and enough CPUs (or a GPU) are free.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmark.base.errors import UserError
from benchmark.base.machine import memory_mb, visible_cpus, visible_gpus
from benchmark.base.words import count
from benchmark.planning.device_estimate import estimate
from benchmark.planning.pack_size import Limits
from benchmark.planning.packs import Pack
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.run.reading import read
from benchmark.run.state import ENDED
from benchmark.slurm.profile import Resources as Share
from benchmark.submission.at_work import at_work, is_at_work
from benchmark.submission.sent import paused
from benchmark.submission.submission import Submission, summary
from benchmark.submission.worker import run_pack_in_job

_POLL_SECONDS = 0.2
_REMIND_SECONDS = 10.0


@dataclass(frozen=True)
class Need:
    """What one pack occupies while it runs."""

    cpus: int
    gpu: bool


@dataclass
class Resources:
    """The CPUs and GPUs of this machine that are free."""

    cpus: int = field(default_factory=visible_cpus)
    gpus: list[str] = field(default_factory=visible_gpus)

    def take(self, need: Need) -> list[str] | None:
        """Take what a pack needs: its GPUs, or None where it does not fit now."""
        if need.cpus > self.cpus or (need.gpu and not self.gpus):
            return None
        self.cpus -= need.cpus
        return [self.gpus.pop(0)] if need.gpu else []

    def give(self, need: Need, gpus: Sequence[str]) -> None:
        """Put back what :meth:`take` gave."""
        self.cpus += need.cpus
        self.gpus += gpus


def need_of(run: Run, cpus: int) -> Need:
    """Return what a pack of such runs occupies on a machine with so many CPUs."""
    return Need(min(run.recipe.threads, cpus), run.recipe.device == "cuda")


class LocalExecutor:
    """Queues packs on this machine."""

    def announce(self, submission: Submission) -> list[str]:
        """Say how much is trained, and on what."""
        cpus, gpus = visible_cpus(), visible_gpus()
        where = count(cpus, "CPU") + (f" and {count(len(gpus), 'GPU')}" if gpus else "")
        needs = {pack.id: need_of(pack.runs[0], cpus) for pack in submission.packs}
        shares = {name: Share(need.cpus, str(int(need.gpu)), "0") for name, need in needs.items()}
        return [
            f"{summary(submission.packs)} on {where}",
            estimate(submission.packs, shares, submission.runs_dir).words(),
        ]

    def limits(self, run: Run) -> Limits:
        """Return the share of this machine's memory that one of the packs at a time has."""
        cpus = visible_cpus()
        need = need_of(run, cpus)
        at_a_time = len(visible_gpus()) if need.gpu else cpus // need.cpus
        return Limits(memory_mb=memory_mb() / max(1, at_a_time))

    def start(self, submission: Submission, wait: bool) -> int:
        """Run the queue here (``wait``), or in a process of its own that survives logout."""
        for pack in submission.packs:
            if pack.runs[0].recipe.device == "cuda" and not visible_gpus():
                raise UserError(
                    f"{pack.label} wants a CUDA device and this machine shows none;"
                    " add --set recipe.device=cpu to train on the CPU"
                )
        submission.write()
        if wait:
            print(
                "this terminal runs the queue: closing it stops the training, and submitting"
                " again continues it",
                file=sys.stderr,
            )
            return run_queue(submission)
        return self._detach(submission)

    def _detach(self, submission: Submission) -> int:
        log = submission.folder / "logs" / "queue.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmark.submission.local", str(submission.folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        # Until it shows that it lives, submitting again would queue the same runs twice.
        while not is_at_work(submission.folder):
            if process.poll() is not None:
                if process.returncode == 0:
                    break  # it was that quick
                raise UserError(f"the queue could not be started; its log: {log}")
            time.sleep(0.05)
        print(
            f"the queue runs in process {process.pid}, apart from this terminal: it survives"
            " logout unless the system ends users' processes then",
            file=sys.stderr,
        )
        print(f"log: {log}", file=sys.stderr)
        return 0


def run_queue(submission: Submission) -> int:
    """Run the packs of a written submission; returns 0, or 1 when a run has no result."""
    queue = _Queue(submission)
    previous = {
        number: signal.signal(number, queue.ask_to_stop)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        with at_work(submission.folder):
            return queue.run()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _shielded() -> Iterator[None]:
    """Start processes that neither Ctrl-C nor a closed terminal reaches.

    Both would kill submitit's controller, which gives its job one second. The queue tells them
    by SIGTERM instead, which the controller hands on.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Queue:
    def __init__(self, submission: Submission) -> None:
        self.submission = submission
        self.resources = Resources()
        self.total_cpus = self.resources.cpus
        self.waiting = list(submission.packs)
        self.running: list[tuple[Pack, Any, Need, list[str]]] = []
        self.ended: set[str] = set()
        self.code = 0
        self.asked_to_stop = 0
        self.told = -math.inf

    def ask_to_stop(self, _number: int, _frame: object) -> None:
        self.asked_to_stop += 1

    def run(self) -> int:
        show = _display(self.submission)
        try:
            while self.running or (self.waiting and not self.asked_to_stop):
                if not self.asked_to_stop:
                    self._start_what_fits()
                elif self._leave_at_once(show):
                    break
                else:
                    self._tell_to_stop(show)
                self._collect(show)
                if self.running or paused(self.submission.folder):
                    time.sleep(_POLL_SECONDS)
        finally:
            show(None)
        return 1 if self.asked_to_stop else self.code

    def _start_what_fits(self) -> None:
        if paused(self.submission.folder):
            return
        for pack in list(self.waiting):
            if not all(name in self.ended for name in pack.depends):
                continue
            need = need_of(pack.runs[0], self.total_cpus)
            gpus = self.resources.take(need)
            if gpus is None:
                continue
            self.waiting.remove(pack)
            self.running.append((pack, self._launch(pack, gpus), need, gpus))

    def _launch(self, pack: Pack, gpus: list[str]) -> Any:
        import submitit

        executor = submitit.LocalExecutor(folder=self.submission.folder / "logs")
        executor.update_parameters(timeout_min=60 * 24 * 365, name=f"bench-{pack.table}")
        with _shielded():
            job = executor.submit(
                run_pack_in_job, str(self.submission.pack_file(pack)), tuple(gpus)
            )
        # submitit names logs by process; people and `bench logs` look for the pack.
        log = self.submission.folder / "logs" / f"{pack.id}.log"
        log.symlink_to(job.paths.stderr.name)
        return job

    def _tell_to_stop(self, show: Callable[[str | None], None]) -> None:
        if time.monotonic() - self.told < _REMIND_SECONDS:
            return
        if self.told < 0:
            show(f"stopping: {count(len(self.running), 'pack')} to save; submit again to continue")
        self.told = time.monotonic()
        for _pack, job, _need, _gpus in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(job.job_id), signal.SIGTERM)

    def _leave_at_once(self, show: Callable[[str | None], None]) -> bool:
        if self.asked_to_stop < 2 or self.told < 0:
            return False
        show("leaving; the packs that were told to stop do so by themselves")
        return True

    def _collect(self, show: Callable[[str | None], None]) -> None:
        for item in list(self.running):
            pack, job, need, gpus = item
            if not job.done():
                continue
            self.running.remove(item)
            self.resources.give(need, gpus)
            self.ended.add(pack.id)
            for line in self._judge(pack, job):
                show(line)
            show("")

    def _judge(self, pack: Pack, job: Any) -> list[str]:
        error = job.exception()
        if error is not None:
            self.code = 1
            last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            return [f"{pack.label} ended without an answer: {last} (log: {job.paths.stderr})"]
        answer = job.result()
        self.code = max(self.code, min(1, answer["exit_code"]))
        return [
            f"{key or pack.label}: {answer['endings'].get(key, 'failed')}: {reason}"
            for key, reason in answer["reasons"].items()
        ]


def _display(submission: Submission) -> Callable[[str | None], None]:
    """Return a function that shows a line and the progress; None ends the display."""
    keys = [run.key for pack in submission.packs for run in pack.runs]

    def finished() -> int:
        return sum(read(RunDir(submission.runs_dir, key)).state in ENDED for key in keys)

    console = Console(stderr=True)
    if not console.is_terminal:
        seen = {"done": -1}

        def plain(line: str | None) -> None:
            if line:
                print(line, file=sys.stderr, flush=True)
            done = finished()
            if done != seen["done"]:
                seen["done"] = done
                print(
                    f"{submission.table}: {done}/{len(keys)} runs done", file=sys.stderr, flush=True
                )

        return plain
    progress = Progress(
        TextColumn(submission.table),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("runs"),
        TimeElapsedColumn(),
        console=console,
    )
    task = progress.add_task("", total=len(keys))
    progress.start()

    def live(line: str | None) -> None:
        if line:
            progress.console.print(line, highlight=False, markup=False)
        progress.update(task, completed=finished())
        if line is None:
            progress.stop()

    return live


def read_submission(folder: Path) -> Submission:
    """Return a submission as it was written to its folder."""
    packs = []
    data: dict[str, Any] = {}
    for path in (folder / "packs").glob("*.json"):
        data = json.loads(path.read_text())
        runs = tuple(Run.model_validate(item) for item in data["runs"])
        packs.append(Pack(data["table"], runs, tuple(data["depends"])))
    if not packs:
        raise UserError(f"{folder} holds no packs")
    packs.sort(key=lambda pack: (bool(pack.depends), pack.label, pack.id))
    return Submission(
        table=packs[0].table,
        nonce=folder.name.rpartition("-")[2],
        folder=folder,
        runs_dir=Path(data["runs_dir"]),
        data_dir=Path(data["data_dir"]),
        packs=tuple(packs),
        plugins=tuple(Path(p) for p in data["plugins"]),
        reader=data["reader"],
    )


if __name__ == "__main__":
    os.umask(0o022)
    raise SystemExit(run_queue(read_submission(Path(sys.argv[1]))))
