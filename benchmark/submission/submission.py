"""What executors are given and what they give back: the one protocol of this machine and a cluster.

An executor knows nothing of tables, and keeps nothing between calls: it is asked for its queue,
then to prepare a submission against it; what it prepared is checked, said, and sent. Imports no
torch.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from benchmark.base.words import count
from benchmark.planning.pack_size import Limits
from benchmark.planning.packs import Pack
from benchmark.planning.remaining import Queued
from benchmark.run.identity import Run
from benchmark.run.pack_file import PackFile, Reader
from benchmark.submission.folder import Folder, submissions_dir
from benchmark.table.own_teachers import FileOfTeacher

_LONGEST = 100  # characters of a table's name in the name of a folder; disks take 255 in all


@dataclass(frozen=True)
class Submission:
    """Packs on their way to an executor, in a private folder of their own.

    ``queued``: the runs of the same plan, by key, that wait or run in an earlier submission.
    ``teachers``: where the user's own teachers lie, by sha256.
    """

    table: str
    nonce: str
    folder: Folder
    runs_dir: Path
    data_dir: Path
    packs: tuple[Pack, ...]
    plugins: tuple[Path, ...] = ()
    reader: Reader | None = None
    queued: Mapping[str, Queued] = field(default_factory=dict)
    teachers: Mapping[str, FileOfTeacher] = field(default_factory=dict)

    @property
    def runs(self) -> list[Run]:
        """All runs that its packs train."""
        return [run for pack in self.packs for run in pack.trained]

    def files(self, plugins: Iterable[Path] | None = None) -> list[PackFile]:
        """Return what jobs read, a file a pack; with other ``plugins`` if those are copied."""
        chosen = self.plugins if plugins is None else tuple(plugins)
        where = (self.runs_dir, self.data_dir, self.reader, chosen, self.teachers)
        return [pack.file(*where) for pack in self.packs]

    def write(self, executor: str) -> None:
        """Create the folder with all packs as one array, for a queue of this machine."""
        self.folder.create()
        self.folder.logs.mkdir(mode=0o700)
        self.folder.write(0, self.files())
        self.folder.note(self.table, executor, self.nonce, len(self.packs))


def new_submission(
    table: str,
    packs: Iterable[Pack],
    runs_dir: Path,
    data_dir: Path,
    plugins: Iterable[Path] = (),
    reader: Reader | None = None,
    queued: Mapping[str, Queued] | None = None,
    teachers: Mapping[str, FileOfTeacher] | None = None,
) -> Submission:
    """Return a submission with a folder name of its own; nothing is written yet."""
    nonce = secrets.token_hex(6)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return Submission(
        table=table,
        nonce=nonce,
        folder=Folder(submissions_dir(runs_dir) / f"{table[:_LONGEST]}-{stamp}-{nonce}"),
        runs_dir=runs_dir,
        data_dir=data_dir,
        packs=tuple(packs),
        plugins=tuple(plugins),
        reader=reader,
        queued=queued or {},
        teachers=teachers or {},
    )


@dataclass(frozen=True)
class Queue:
    """What an executor had of earlier submissions when it was asked.

    ``runs``: those that wait or run, by key. ``known``: all folders that had been sent then.
    ``tasks``: how many of this user's tasks are in it. ``killed``: by run key, how many runs
    shared the process that last trained the run and died for memory. ``ended``: by run key, the
    task that last had the run and is over; ``ending``: those of them that are only being ended, so
    that what follows must wait for them.
    """

    runs: Mapping[str, Queued] = field(default_factory=dict)
    known: frozenset[Folder] = frozenset()
    tasks: int = 0
    killed: Mapping[str, int] = field(default_factory=dict)
    ended: Mapping[str, str] = field(default_factory=dict)
    ending: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Prepared:
    """A submission that its executor has checked.

    ``lines``: where it goes, how much, how long. ``send`` is told whether to wait for the runs, and
    returns their exit code (0 or 1; 0 if it does not wait). ``script``
    returns what would be sent, as text; empty if nothing is.
    """

    lines: tuple[str, ...]
    send: Callable[[bool], int]
    script: Callable[[], str] = str


class Executor(Protocol):
    """Trains the packs of a submission somewhere."""

    @property
    def name(self) -> str:
        """How --cluster names it."""

    @property
    def device(self) -> str:
        """What ``device: auto`` means there, cuda or cpu."""

    @property
    def runs_dir(self) -> Path | None:
        """Where runs lie there, None if that is open."""

    @property
    def data_dir(self) -> Path | None:
        """Where data lie there, None if that is open."""

    def limits(self, run: Run) -> Limits:
        """Return what a process that trains runs such as this one may use."""

    def queue(self, runs_dir: Path) -> Queue:
        """Return what wait or run in earlier submissions."""

    def prepare(self, submission: Submission, queue: Queue) -> Prepared:
        """Check a submission; nothing is written. One without packs waits for what is queued.

        Raises UserError if it would be refused or wait for ever.
        """


def summary(packs: Iterable[Pack]) -> str:
    """Return in words how much is trained."""
    found = list(packs)
    runs = sum(len(pack.trained) for pack in found)
    training = sum(not pack.fills for pack in found)
    asked = len(found) - training
    parts = [f"training {count(runs, 'run')} in {count(training, 'pack')}"] if training else []
    parts += [f"asking {count(asked, 'teacher')} beforehand"] if asked else []
    return ", ".join(parts)
