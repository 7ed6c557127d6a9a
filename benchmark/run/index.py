"""A private index of run directories, so that collecting 100,000 runs takes seconds.

The directories are the truth. The index is an SQLite file in the user's own cache folder,
brought up to date from file times at every use. It is never in the way: where it is damaged it
is made anew, where it cannot be written (or another collector writes it for too long) the
directories are read into memory instead. Imports no torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.base import files
from benchmark.base.errors import UserError
from benchmark.run import identity, reading
from benchmark.run.reading import METRICS, STATISTICS, RunReader, RunRecord
from benchmark.table import recipe

__all__ = ["METRICS", "STATISTICS", "IndexedRun", "RunIndex"]

_VALUES = tuple(f"{metric}_{statistic}" for metric in METRICS for statistic in STATISTICS)
_NAMES = tuple((metric, statistic) for metric in METRICS for statistic in STATISTICS)
_PLACES = {name: place for place, name in enumerate(_NAMES)}
_FIELDS = "key, cell, seed, teacher, state, reason, commit_id, teacher_file, val_top1"
_ALL = f"{_FIELDS}, {', '.join(_VALUES)}"
_NUMBERS = len(_FIELDS.split(", "))  # where the accuracies start in a row
_TABLES = {
    "made_by": "create table made_by (code text)",
    "cells": "create table cells (cell text primary key, signature text, identity text)",
    "runs": "create table runs (key text primary key, cell text, seed integer,"
    " teacher text, state text, reason text, commit_id text, teacher_file text, val_top1 real,"
    f" {' real, '.join(_VALUES)} real, stamp text)",
}
_LOOKUPS = (
    "create index by_cell on runs (cell)",
    "create index by_signature on cells (signature)",
)
_LOCK_SECONDS = 20.0
# File times advance in steps (4 ms on Linux, up to 2 s elsewhere): a file younger than this may
# change once more without its time showing it, and is read again at the next use.
_YOUNG_NS = 3_000_000_000


class FoundTeacher(NamedTuple):
    """The run of a teacher: its seed, and its cell by key and by what it is."""

    seed: int
    cell: str
    identity: dict[str, Any]


class IndexedRun(NamedTuple):
    """One run directory as collecting sees it.

    ``state``: done, diverged, open (no result yet), broken with a ``reason``, or queued (it
    has no directory yet). ``teacher``: the key of its teacher's run or the digest of its
    checkpoint; ``teacher_file``: the start of the digest of the file that was read.
    ``numbers``: percent, see :meth:`value`.
    """

    key: str
    cell: str
    seed: int
    teacher: str | None
    state: str
    reason: str | None
    commit: str | None
    teacher_file: str | None
    val_top1: float | None
    numbers: tuple[float, ...] = ()

    def value(self, metric: str, statistic: str) -> float:
        """Return an accuracy in percent; only a run that is done has them."""
        return self.numbers[_PLACES[metric, statistic]]


class RunIndex:
    """The index of one runs directory.

    ``foreign``: how many entries of the directory are no runs, counted by :meth:`refresh`.
    """

    def __init__(self, runs_dir: Path, cache_dir: Path | None = None) -> None:
        self.runs_dir = runs_dir
        self.foreign = 0
        name = hashlib.sha256(os.fsencode(runs_dir.resolve())).hexdigest()[:16]
        self._path = (cache_dir or _cache_dir()) / f"runs-{name}.sqlite"
        self._database = self._open()

    # -- bringing it up to date -------------------------------------------------------------

    def refresh(self) -> None:
        """Bring the index up to date: runs whose files changed are read again.

        Raises UserError where the runs directory cannot be read.
        """
        try:
            self._refresh()
        except sqlite3.DatabaseError as error:
            self._give_up(error)

    def _refresh(self) -> None:
        known = dict(self._database.execute("select key, stamp from runs"))
        cells = {cell for (cell,) in self._database.execute("select cell from cells")}
        reader = RunReader(self.runs_dir, cells)
        now = time.time_ns()
        rows: list[tuple[Any, ...]] = []
        seen: set[str] = set()
        self.foreign = 0
        for name, is_directory in _entries(self.runs_dir):
            stamp = reading.look(self.runs_dir, name) if is_directory else None
            if stamp is None:
                self.foreign += 1
                continue
            key = _storable(name)
            seen.add(key)
            if known.get(key) == stamp.text and not stamp.error:
                continue
            record = reader.read(name, stamp)
            if record is None:  # deleted in between
                seen.discard(key)
                continue
            settled = not stamp.error and now - stamp.newest_ns > _YOUNG_NS
            rows.append(_row(key, stamp.text if settled else "", record))
        gone = [(key,) for key in known if key not in seen]
        self._write(gone, rows, reader.new_cells)

    def _write(
        self, gone: list[tuple[str]], rows: list[tuple[Any, ...]], cells: list[tuple[str, str, str]]
    ) -> None:
        if not (gone or rows or cells):
            return
        marks = ", ".join("?" * (len(_ALL.split(", ")) + 1))
        with self._database:
            self._database.executemany("delete from runs where key = ?", gone)
            self._database.executemany("insert or replace into cells values (?, ?, ?)", cells)
            self._database.executemany(f"insert or replace into runs values ({marks})", rows)

    # -- asking it --------------------------------------------------------------------------

    def runs(self, signatures: Iterable[str]) -> list[IndexedRun]:
        """Return the indexed runs whose cells have these signatures."""
        query = (
            f"select {_ALL} from runs natural join (select cell from cells where signature in (#))"
        )
        return list(map(_indexed, self._in_parts(query, signatures)))

    def cells(self, signatures: Iterable[str]) -> dict[str, tuple[str, dict[str, Any]]]:
        """Return signature and identity of the cells of these signatures, by cell key."""
        query = "select cell, signature, identity from cells where signature in (#)"
        return {c: (place, json.loads(i)) for c, place, i in self._in_parts(query, signatures)}

    def all_runs(self) -> list[IndexedRun]:
        """Return every run whose cell is known, by key."""
        query = f"select {_ALL} from runs where cell != '' order by key"
        return [_indexed(row) for row in self._ask(query)]

    def all_cells(self) -> dict[str, dict[str, Any]]:
        """Return the identity of every cell, by cell key."""
        return {c: json.loads(i) for c, i in self._ask("select cell, identity from cells")}

    def cells_of(self, keys: Iterable[str]) -> dict[str, str]:
        """Return the cells of the runs with these keys, where they are there."""
        return dict(self._in_parts("select key, cell from runs where key in (#)", keys))

    def teacher(self, key: str) -> FoundTeacher | None:
        """Return the run that other runs name as their teacher, None where it is not there."""
        query = "select seed, cell, identity from runs natural join cells where key = ?"
        for seed, cell, text in self._ask(query, (key,)):
            return FoundTeacher(seed, cell, json.loads(text))
        return None

    def broken(self) -> list[tuple[str, str]]:
        """Return key and reason of every run directory that cannot be counted."""
        return self._ask("select key, reason from runs where state = 'broken' order by key")

    def _in_parts(self, query: str, names: Iterable[str]) -> Iterator[tuple[Any, ...]]:
        wanted = sorted(set(names))
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            yield from self._ask(query.replace("#", ", ".join("?" * len(part))), part)

    def _ask(self, query: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._database.execute(query, tuple(values)).fetchall()
        except sqlite3.DatabaseError as error:
            self._give_up(error)
            return self._database.execute(query, tuple(values)).fetchall()

    # -- the file ---------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            return _connect(str(self._path))
        except OSError:
            return _connect(":memory:")
        except sqlite3.DatabaseError as error:
            if not _is_damaged(error):
                return _connect(":memory:")
        try:
            self._delete()
            return _connect(str(self._path))
        except (OSError, sqlite3.DatabaseError):
            return _connect(":memory:")

    def _give_up(self, error: sqlite3.DatabaseError) -> None:
        """Go on without the file: read everything into memory."""
        with contextlib.suppress(sqlite3.DatabaseError):
            self._database.close()
        if _is_damaged(error):
            with contextlib.suppress(OSError):
                self._delete()
        self._database = _connect(":memory:")
        self._refresh()

    def _delete(self) -> None:
        # The journal first: beside a new file it would be taken for that file's own.
        self._path.with_name(self._path.name + "-journal").unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)


def _connect(path: str) -> sqlite3.Connection:
    """Open an index; one that other code made is emptied, since that may read runs otherwise."""
    database = sqlite3.connect(path, timeout=_LOCK_SECONDS)
    try:
        if not _is_ours(database):
            with database:
                database.execute("begin immediate")
                if not _is_ours(database):  # another process may have made it meanwhile
                    for name in _TABLES:
                        database.execute(f"drop table if exists {name}")
                    for statement in (*_TABLES.values(), *_LOOKUPS):
                        database.execute(statement)
                    database.execute("insert into made_by values (?)", (_code(),))
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


def _is_ours(database: sqlite3.Connection) -> bool:
    if not database.execute("select 1 from sqlite_master where name = 'made_by'").fetchall():
        return False
    return database.execute("select code from made_by").fetchall() == [(_code(),)]


def _is_damaged(error: sqlite3.DatabaseError) -> bool:
    """Tell damage from a file that is locked, read-only or on a full disk."""
    return not isinstance(error, sqlite3.OperationalError)


@cache
def _code() -> str:
    """Return a digest of the code that decides what the index holds."""
    found = hashlib.sha256(repr(_TABLES).encode())
    for module in (reading, files, recipe, identity):
        assert module.__file__ is not None
        found.update(Path(module.__file__).read_bytes())
    return found.hexdigest()


def _cache_dir() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    # Without a home there is no place for a cache, and none can be made below this one.
    return (base if base.is_absolute() else Path(os.devnull)) / "kd-benchmark"


def _entries(root: Path) -> Iterator[tuple[str, bool]]:
    """Yield name and kind of everything in a directory that is not hidden."""
    try:
        with os.scandir(root) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    yield entry.name, _is_directory(entry)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"cannot read the runs directory {root}: {error.strerror}") from error


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _row(key: str, stamp: str, record: RunRecord) -> tuple[Any, ...]:
    told = (
        record.cell,
        record.seed,
        record.teacher,
        record.state,
        record.reason,
        record.commit,
        record.teacher_file,
    )
    texts = (_storable(value) if isinstance(value, str) else value for value in told)
    return (key, *texts, record.val_top1, *(record.values.get(name) for name in _NAMES), stamp)


def _storable(text: str) -> str:
    """Return text without what no file can hold: names need not be UTF-8, nor need JSON be."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _indexed(row: tuple[Any, ...]) -> IndexedRun:
    return IndexedRun._make((*row[:_NUMBERS], row[_NUMBERS:]))
