"""Submit a table: expand it, drop what is there already, pack the rest, hand it to an executor.

The executors (in this process, on this machine, on a cluster) get the same packs as JSON and
know nothing of tables; nothing here knows where they run. Imports no torch.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from benchmark.base.files import make_directory, write_json
from benchmark.base.words import count
from benchmark.planning.packs import Pack
from benchmark.planning.remaining import Queued


@dataclass(frozen=True)
class Submission:
    """Packs on their way to an executor, in a private folder of their own.

    ``queued``: the runs of the same plan, by key, that wait or run in an earlier submission.
    """

    table: str
    nonce: str
    folder: Path
    runs_dir: Path
    data_dir: Path
    packs: tuple[Pack, ...]
    plugins: tuple[Path, ...] = ()
    reader: str | None = None
    queued: Mapping[str, Queued] = field(default_factory=dict)

    def pack_file(self, pack: Pack) -> Path:
        """Return where a pack's JSON lies."""
        return self.folder / "packs" / f"{pack.id}.json"

    def write(self) -> None:
        """Create the folder (0700: nobody else may write what a job will read) and the packs."""
        make_directory(self.folder.parent)
        self.folder.mkdir(mode=0o700)
        (self.folder / "packs").mkdir(mode=0o700)
        (self.folder / "logs").mkdir(mode=0o700)
        for pack in self.packs:
            write_json(self.pack_file(pack), self.content(pack))

    def content(self, pack: Pack) -> dict[str, Any]:
        """Return all that a job needs to train a pack, as JSON values."""
        return pack.to_json(self.plugins) | {
            "runs_dir": str(self.runs_dir.resolve()),
            "data_dir": str(self.data_dir.resolve()),
            "reader": self.reader,
        }


class Executor(Protocol):
    """Runs the packs of a submission somewhere."""

    def announce(self, submission: Submission) -> list[str]:
        """Return the lines to show before anything starts: where, how much, how long."""

    def start(self, submission: Submission, wait: bool) -> int:
        """Start the packs; with ``wait`` return their exit code (0 or 1), else 0 at once."""


@runtime_checkable
class QueueExecutor(Executor, Protocol):
    """Hands packs to a queue that outlives this process and knows of earlier submissions."""

    @property
    def runs_dir(self) -> Path | None:
        """Where runs lie there, None where that is open."""

    @property
    def data_dir(self) -> Path | None:
        """Where data lie there, None where that is open."""

    def in_flight(self, runs_dir: Path) -> dict[str, Queued]:
        """Return the runs that wait or run in an earlier submission, by key."""

    def rehearse(self, submission: Submission) -> str:
        """Return what would be sent of an announced submission, without sending it."""

    def wait_for(self, keys: Iterable[str], runs_dir: Path) -> int:
        """Return when none of these runs is queued: 0 if each has its result, else 1."""


def new_submission(
    table: str,
    packs: list[Pack],
    runs_dir: Path,
    data_dir: Path,
    plugins: Iterable[Path] = (),
    reader: str | None = None,
    queued: Mapping[str, Queued] | None = None,
) -> Submission:
    """Return a submission with a folder name of its own; nothing is written yet."""
    nonce = secrets.token_hex(6)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    folder = runs_dir / ".submissions" / f"{table}-{stamp}-{nonce}"
    return Submission(
        table=table,
        nonce=nonce,
        folder=folder,
        runs_dir=runs_dir,
        data_dir=data_dir,
        packs=tuple(packs),
        plugins=tuple(plugins),
        reader=reader,
        queued=queued or {},
    )


def summary(packs: Iterable[Pack]) -> str:
    """Return in words how much is trained."""
    found = list(packs)
    runs = sum(len(pack.runs) for pack in found)
    return f"training {count(runs, 'run')} in {count(len(found), 'pack')}"
