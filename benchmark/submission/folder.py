"""The folder of one submission: every path in it, and the form in which packs lie there.

All executors write the same: ``submission.json`` says where its packs went, ``array-N.jsonl``
holds a pack a line. Two small files beside it let a task read its own line alone, and let others
find a pack (its id, label, keys and cells) without reading what it trains. Imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from benchmark.base.errors import UserError
from benchmark.base.files import (
    LONGEST,
    parse_json,
    replacing,
    shared_directory,
    write_json,
    write_text,
)
from benchmark.base.inside import private
from benchmark.run.pack_file import PackFile, read_pack

SCHEMA = 1
_OFFSET = struct.Struct("<Q")
_ONE_LINE = (",", ":")


class Entry(NamedTuple):
    """What is known of a pack without reading it."""

    id: str
    label: str
    keys: tuple[str, ...]
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Folder:
    """All paths of a submission. Nobody but its owner may write there: jobs read it."""

    path: Path

    @property
    def record(self) -> Path:
        """Which array became which job, and how it was submitted."""
        return self.path / "submission.json"

    def packs(self, array: int) -> Path:
        """The packs of an array, a line each."""
        return self.path / f"array-{array}.jsonl"

    def offsets(self, array: int) -> Path:
        """Where each of those lines starts."""
        return self.path / f"array-{array}.offsets"

    def index(self, array: int) -> Path:
        """The id, label, keys and cells of each of those packs."""
        return self.path / f"array-{array}.index.json"

    def script(self, array: int) -> Path:
        """What sbatch was given."""
        return self.path / f"array-{array}.sh"

    def plugin(self, path: Path) -> Path:
        """The copy of a plug-in, which later edits do not change."""
        return self.path / "plugins" / path.name

    @property
    def logs(self) -> Path:
        """The logs of the queue of this machine."""
        return self.path / "logs"

    @property
    def queue_log(self) -> Path:
        """The log of that queue itself."""
        return self.logs / "queue.log"

    def pack_log(self, pack_id: str) -> Path:
        """The log of a pack that this machine trains."""
        return self.logs / f"{pack_id}.log"

    def task_log(self, task: str | None) -> Path:
        """The log of a task of Slurm (``1234_5``), named by submitit."""
        return self.path / f"{task}_0_log.out"

    @property
    def failures(self) -> Path:
        """A file for each task that failed."""
        return self.path / "failures"

    @property
    def held(self) -> Path:
        """Present while the submission is held after failures."""
        return self.path / "held.json"

    @property
    def stopped(self) -> Path:
        """Present once somebody stopped the process that works through the submission."""
        return self.path / "stopped.json"

    @property
    def paused(self) -> Path:
        """Present while somebody has paused the submission."""
        return self.path / "paused.json"

    # -- packs ----------------------------------------------------------------------------------

    def create(self) -> None:
        """Make the folder, for its owner alone (0700). Raises UserError if it cannot be made."""
        shared_directory(self.path.parent)
        self.path.mkdir(mode=0o700)

    def write(self, array: int, packs: Sequence[PackFile]) -> None:
        """Write the packs of an array, and the two small files beside them."""
        entries = [Entry(pack.id, pack.label, pack.keys, pack.cells) for pack in packs]
        self._write(array, entries, [pack.text() for pack in packs])

    def _write(self, array: int, entries: Sequence[Entry], lines: Sequence[str]) -> None:
        offsets = [0]
        with replacing(self.packs(array)) as file:
            for line in lines:
                file.write(line.encode() + b"\n")
                offsets.append(file.tell())
        with replacing(self.offsets(array)) as file:
            file.write(b"".join(_OFFSET.pack(offset) for offset in offsets))
        write_text(self.index(array), json.dumps(entries, separators=_ONE_LINE))

    def read(self, array: int, number: int) -> PackFile:
        """Return pack ``number`` of an array; UserError if the files do not hold it."""
        path = self.packs(array)
        try:
            with self._opened(self.offsets(array)) as file:
                file.seek(number * _OFFSET.size)
                start, stop = (_OFFSET.unpack(file.read(_OFFSET.size))[0] for _ in range(2))
            with self._opened(path) as file:
                file.seek(start)
                text = file.read(stop - start)
        except (OSError, struct.error) as error:
            raise UserError(f"cannot read task {number} of {path}: {error}") from error
        return read_pack(text, f"task {number} of {path}")

    def read_all(self, array: int) -> Iterator[PackFile]:
        """Yield the packs of an array in order; UserError if the file does not hold one."""
        path = self.packs(array)
        try:
            with self._opened(path) as file:
                lines = file.read().splitlines()
        except OSError as error:
            raise UserError(f"cannot read {path}: {error}") from error
        for number, line in enumerate(lines):
            yield read_pack(line, f"task {number} of {path}")

    def read_record(self) -> dict[str, Any]:
        """Return what :attr:`record` holds; UserError if it cannot be read or is not the user's."""
        try:
            with self._opened(self.record) as file:
                content = file.read(LONGEST)
        except OSError as error:
            raise UserError(f"cannot read {self.record}: {error.strerror}") from error
        return parse_json(content, self.record, SCHEMA)

    def read_plugin(self, path: Path) -> bytes:
        """Return a plug-in's copy by its path. Raises OSError or UserError."""
        with self._opened(path) as file:
            return file.read()

    def entries(self, array: int) -> list[Entry]:
        """Return what is known of an array's packs; nothing if that cannot be read."""
        try:
            with self._opened(self.index(array)) as file:
                rows = json.loads(file.read())
            return [Entry(name, label, tuple(k), tuple(c)) for name, label, k, c in rows]
        except (OSError, ValueError, TypeError, RecursionError):
            return []

    @contextlib.contextmanager
    def writing(self, path: Path) -> Iterator[IO[bytes]]:
        """Open a file of this folder to write it anew, such as a log; see :meth:`read_record`."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with private(self.path) as folder:
            descriptor = os.open(path.relative_to(self.path), flags, 0o666, dir_fd=folder)
            with os.fdopen(descriptor, "wb") as file:
                yield file

    @contextlib.contextmanager
    def _opened(self, path: Path) -> Iterator[IO[bytes]]:
        """Open a file of this folder, if the user alone may write there.

        Whoever may write the runs directory can put another folder in the place of this one, and
        what lies here is run.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with private(self.path) as folder:
            descriptor = os.open(path.relative_to(self.path), flags, dir_fd=folder)
            with os.fdopen(descriptor, "rb") as file:
                yield file

    # -- an earlier form ------------------------------------------------------------------------

    def modernise(self) -> None:
        """Give what an earlier version queued on this machine (a file a pack) today's form.

        The old files stay, since an old queue may still read them.
        """
        paths = [] if self.record.exists() else sorted((self.path / "packs").glob("*.json"))
        if not paths:
            return
        packs: list[dict[str, Any]] = []
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            for path in paths:
                with self._opened(path) as file:
                    packs.append(json.load(file))
            packs.sort(key=lambda pack: (bool(pack["depends"]), pack["label"], pack["id"]))
            entries = [Entry(p["id"], p["label"], p["keys"], p["cells"]) for p in packs]
            before = self.path.stat()
            self._write(0, entries, [json.dumps(pack, separators=_ONE_LINE) for pack in packs])
            nonce = self.path.name.rpartition("-")[2]
            self.note(packs[0]["table"], "local", nonce, len(packs), before.st_mtime)
            os.utime(self.path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def note(
        self, table: str, executor: str, nonce: str, tasks: int, created: float | None = None
    ) -> None:
        """Write the record of a submission that is one array and goes to no cluster."""
        array = {"nonce": f"{nonce}-0", "tasks": tasks, "after": [], "job": None}
        record = {"schema": SCHEMA, "table": table, "executor": executor, "nonce": nonce}
        record["created"] = time.time() if created is None else created
        write_json(self.record, record | {"arrays": [array]})


def submissions_dir(runs_dir: Path) -> Path:
    """Return where the submissions of everybody who uses a runs directory lie."""
    return runs_dir / ".submissions"
