"""The queue of this machine: a pack waits until its teacher's ended and CPUs or a GPU are free."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmark.base.errors import UserError
from benchmark.base.log import live, say, terminal
from benchmark.base.machine import visible_cpus, visible_gpus
from benchmark.base.words import count
from benchmark.planning.packs import Pack
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.run.reading import read
from benchmark.run.state import ENDED
from benchmark.submission.crews import processes_of
from benchmark.submission.folder import Folder
from benchmark.submission.marks import at_work, note_failure, note_stop, paused
from benchmark.submission.nursery import Nursery, can_fork_warm
from benchmark.submission.order import by_length
from benchmark.submission.process import PackProcess
from benchmark.submission.submission import Submission

_POLL_SECONDS = 0.2
_REMIND_SECONDS = 10.0


@dataclass(frozen=True)
class Need:
    """What one pack occupies while it runs."""

    cpus: int
    gpus: int


@dataclass
class FreeDevices:
    """The CPUs and GPUs of this machine that are free."""

    cpus: int = field(default_factory=visible_cpus)
    gpus: list[str] = field(default_factory=visible_gpus)

    def take(self, need: Need) -> list[str] | None:
        """Take what a pack needs: its GPUs, or None if it does not fit now."""
        if need.cpus > self.cpus or need.gpus > len(self.gpus):
            return None
        self.cpus -= need.cpus
        return [self.gpus.pop(0) for _ in range(need.gpus)]

    def give(self, need: Need, gpus: Sequence[str]) -> None:
        """Put back what :meth:`take` gave."""
        self.cpus += need.cpus
        self.gpus += gpus


def need_of(run: Run, cpus: int, gpus: int) -> Need:
    """Return what a pack of such runs occupies on a machine with so many CPUs and GPUs."""
    processes = processes_of(run, gpus)
    cuda = run.recipe.device == "cuda"
    return Need(min(run.recipe.threads * processes, cpus), processes if cuda else 0)


def run_queue(submission: Submission) -> int:
    """Run the packs of a written submission; returns 0, or 1 when a run has no result."""
    queue = _LocalQueue(submission)
    previous = {
        number: signal.signal(number, queue.ask_to_stop)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        with at_work(submission.folder.path):
            return queue.run()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _LocalQueue:
    def __init__(self, submission: Submission) -> None:
        self.submission = submission
        self.folder = submission.folder
        self.free = FreeDevices()
        self.total_cpus, self.total_gpus = self.free.cpus, len(self.free.gpus)
        self.waiting = by_length(submission)
        self.running: list[tuple[Pack, PackProcess, Need, list[str]]] = []
        self.ended: set[str] = set()
        self.code = 0
        self.asked_to_stop = 0
        self.asked_by = ""
        self.told = -math.inf
        # One pack alone would wait for it as long as it waits for its own imports.
        warm = len(self.waiting) > 1 and can_fork_warm()
        self.nursery = Nursery() if warm else None

    def ask_to_stop(self, number: int, _frame: object) -> None:
        self.asked_to_stop += 1
        self.asked_by = self.asked_by or signal.Signals(number).name

    def run(self) -> int:
        with _display(self.submission) as show:
            show()
            while self.running or (self.waiting and not self.asked_to_stop):
                if not self.asked_to_stop:
                    self._start_what_fits()
                elif self._leave_at_once():
                    break
                else:
                    self._tell_to_stop()
                if self._collect():
                    show()
                if self.running or paused(self.folder):
                    time.sleep(_POLL_SECONDS)
        if self.nursery is not None:
            self.nursery.close()
        if self.asked_by:
            note_stop(self.folder, self.asked_by)
        return 1 if self.asked_to_stop else self.code

    def _start_what_fits(self) -> None:
        if paused(self.folder):
            return
        for number, pack in list(self.waiting):
            if not all(name in self.ended for name in pack.depends):
                continue
            need = need_of(pack.runs[0], self.total_cpus, self.total_gpus)
            gpus = self.free.take(need)
            if gpus is None:
                continue
            self.waiting.remove((number, pack))
            self.running.append((pack, self._launch(number, pack, gpus), need, gpus))

    def _launch(self, number: int, pack: Pack, gpus: list[str]) -> PackProcess:
        return PackProcess(self.folder, number, pack.id, gpus, self.nursery)

    def _tell_to_stop(self) -> None:
        if time.monotonic() - self.told < _REMIND_SECONDS:
            return
        if self.told < 0:
            say(f"stopping: {count(len(self.running), 'pack')} to save; submit again to continue")
        self.told = time.monotonic()
        for _pack, job, _need, _gpus in self.running:
            job.ask_to_stop()

    def _leave_at_once(self) -> bool:
        if self.asked_to_stop < 2 or self.told < 0:
            return False
        say("leaving; the packs that were told to stop do so by themselves")
        return True

    def _collect(self) -> bool:
        """Take in what has ended; tell whether something has."""
        before = len(self.running)
        for item in list(self.running):
            pack, job, need, gpus = item
            if not job.ended:
                continue
            self.running.remove(item)
            self.free.give(need, gpus)
            self.ended.add(pack.id)
            for line in self._judge(pack, job):
                say(line)
        return len(self.running) < before

    def _judge(self, pack: Pack, job: PackProcess) -> list[str]:
        answer = job.answer()
        if answer is None:
            self.code = 1
            last = job.last_words()
            if not self.asked_to_stop:
                note_failure(self.folder, pack.id, f"its process ended without an answer: {last}")
            return [f"{pack.label} ended without an answer: {last} (log: {job.log})"]
        self.code = max(self.code, min(1, answer["exit_code"]))
        return [
            f"{key or pack.label}: {answer['endings'].get(key, 'failed')}: {reason}"
            for key, reason in answer["reasons"].items()
        ]


@contextlib.contextmanager
def _display(submission: Submission) -> Iterator[Callable[[], None]]:
    """Give a function that shows how many runs are done: a bar on a terminal, else lines."""
    runs = submission.runs

    def done() -> int:
        return sum(read(RunDir(submission.runs_dir, run.key)).state in ENDED for run in runs)

    console = terminal()
    if console is None:
        seen = {"done": -1}

        def tell() -> None:
            found = done()
            if runs and found != seen["done"]:
                seen["done"] = found
                say(f"{submission.table}: {found}/{len(runs)} runs done")

        yield tell
        return
    columns = (TextColumn(submission.table), BarColumn(), MofNCompleteColumn(), TextColumn("runs"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as bar, live(console):
        task = bar.add_task("", total=len(runs))
        yield lambda: bar.update(task, completed=done())


def read_submission(folder: Folder) -> Submission:
    """Return a submission as it was written to its folder. Raises UserError if it is not there."""
    files = list(folder.read_all(0))
    if not files:
        raise UserError(f"{folder.path} holds no packs")
    first = files[0]
    return Submission(
        table=first.table,
        nonce=str(folder.read_record()["nonce"]),
        folder=folder,
        runs_dir=first.runs_dir,
        data_dir=first.data_dir,
        packs=tuple(Pack.of(file) for file in files),
        plugins=first.plugins,
        reader=first.reader,
        teachers={sha256: path for file in files for sha256, path in file.files.items()},
    )
