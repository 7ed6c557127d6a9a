"""A private index of run directories, so that collecting 100,000 runs takes seconds.

The directories are the truth. The index is an SQLite file in the user's own cache folder,
brought up to date from file times at every use. It is never in the way: if it is damaged it
is made anew, if it cannot be written (or another collector writes it for too long) the
directories are read into memory instead. Imports no torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import from_json

from benchmark.base import files, words
from benchmark.base.machine import own_cache_dir
from benchmark.run import directory, identity, lease, reading
from benchmark.run.directory import RunDir, entries
from benchmark.run.measured import Measured, Prediction
from benchmark.run.reading import Progress, Reading, read, signature_of
from benchmark.run.state import RunState
from benchmark.table import recipe

_TABLES = {
    "made_by": "create table made_by (code text)",
    "cells": "create table cells (cell text primary key, signature text, identity text)",
    "runs": "create table runs (name text primary key, cell text, stamp text, reading text)",
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


class RunIndex:
    """The index of one runs directory.

    ``foreign``: how many entries of the directory are no runs, counted by :meth:`refresh`.
    """

    def __init__(self, runs_dir: Path, cache_dir: Path | None = None) -> None:
        self.runs_dir = runs_dir
        self.foreign = 0
        name = hashlib.sha256(os.fsencode(os.path.realpath(runs_dir))).hexdigest()[:16]
        self._path = (cache_dir or own_cache_dir()) / f"runs-{name}.sqlite"
        self._database = self._open()

    # -- bringing it up to date -------------------------------------------------------------

    def refresh(self) -> None:
        """Bring the index up to date: runs whose files changed are read again.

        Raises UserError if the runs directory cannot be read.
        """
        try:
            self._refresh()
        except sqlite3.DatabaseError as error:
            self._give_up(error)

    def _refresh(self) -> None:
        known = dict(self._database.execute("select name, stamp from runs"))
        met = {cell for (cell,) in self._database.execute("select cell from cells")}
        cells: list[tuple[str, str, str]] = []

        def learn(cell: str, identity: dict[str, Any]) -> None:
            if cell not in met:
                met.add(cell)
                text = json.dumps(identity, sort_keys=True, allow_nan=False)
                cells.append((cell, signature_of(identity), text))

        now, root = time.time_ns(), str(self.runs_dir)
        rows: list[tuple[str, str, str, str]] = []
        seen: set[str] = set()
        self.foreign = 0
        for entry in entries(self.runs_dir):
            name = words.printable(entry)
            stamp, newest_ns = _stamp(f"{root}/{entry}")
            if not stamp or known.get(name) != stamp:
                found = read(RunDir(self.runs_dir, entry), learn)
                if found.state is RunState.MISSING:
                    self.foreign += 1
                    continue
                settled = stamp and now - newest_ns > _YOUNG_NS
                rows.append((name, found.cell, stamp if settled else "", json.dumps(found)))
            seen.add(name)
        self._write([(name,) for name in known if name not in seen], rows, cells)

    def _write(
        self,
        gone: list[tuple[str]],
        rows: list[tuple[str, str, str, str]],
        cells: list[tuple[str, str, str]],
    ) -> None:
        if not (gone or rows or cells):
            return
        with self._database:
            self._database.executemany("delete from runs where name = ?", gone)
            self._database.executemany("insert or replace into cells values (?, ?, ?)", cells)
            self._database.executemany("insert or replace into runs values (?, ?, ?, ?)", rows)

    # -- asking it --------------------------------------------------------------------------

    def runs(self, signatures: Iterable[str]) -> list[Reading]:
        """Return the runs whose cells have these signatures, as :meth:`refresh` found them.

        In no order.
        """
        query = (
            "select reading from runs natural join (select cell from cells where signature in (#))"
        )
        return _readings(text for (text,) in self._in_parts(query, signatures))

    def cells(self, signatures: Iterable[str]) -> dict[str, tuple[str, dict[str, Any]]]:
        """Return signature and identity of the cells of these signatures, by cell key."""
        query = "select cell, signature, identity from cells where signature in (#)"
        found = list(self._in_parts(query, signatures))
        identities = _documents(text for _, _, text in found)
        return {c: (place, i) for (c, place, _), i in zip(found, identities, strict=True)}

    def all_runs(self) -> list[Reading]:
        """Return every run of the directory by key, damaged ones included."""
        return _readings(text for (text,) in self._ask("select reading from runs order by name"))

    def all_cells(self) -> dict[str, dict[str, Any]]:
        """Return the identity of every cell, by cell key."""
        found = self._ask("select cell, identity from cells")
        identities = _documents(text for _, text in found)
        return {cell: i for (cell, _), i in zip(found, identities, strict=True)}

    def cells_of(self, keys: Iterable[str]) -> dict[str, str]:
        """Return the cells of the runs with these keys, if they are there."""
        return dict(self._in_parts("select name, cell from runs where name in (#)", keys))

    def teacher(self, key: str) -> FoundTeacher | None:
        """Return the run that other runs name as their teacher, None if it is not there."""
        query = "select reading, cell, identity from runs natural join cells where name = ?"
        for text, cell, identity_text in self._ask(query, (key,)):
            (run,) = _readings([text])
            return FoundTeacher(run.seed, cell, json.loads(identity_text))
        return None

    def damaged(self) -> list[Reading]:
        """Return every run that cannot be counted, by key."""
        query = "select reading from runs where instr(reading, ?) order by name"
        found = _readings(text for (text,) in self._ask(query, (json.dumps(RunState.DAMAGED),)))
        return [run for run in found if run.state is RunState.DAMAGED]

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
    for module in (reading, lease, directory, files, words, recipe, identity):
        assert module.__file__ is not None
        found.update(Path(module.__file__).read_bytes())
    return found.hexdigest()


def _stamp(folder: str) -> tuple[str, int]:
    """Return when a run's cell and result changed last, as text to compare, and the newest time.

    Empty if there is no result yet, or that cannot be told: such a run is read every time. The
    change time is compared, not the modification time: it cannot be set back.
    """
    try:
        cell, result = os.stat(f"{folder}/cell.json"), os.stat(f"{folder}/result.json")
    except OSError:
        return "", 0
    changed, ended = cell.st_ctime_ns, result.st_ctime_ns
    both = f"{changed}.{cell.st_size}.{cell.st_ino} {ended}.{result.st_size}.{result.st_ino}"
    return both, max(changed, ended)


# What JSON does not keep, by its place.
_MADE: tuple[tuple[int, Callable[[Any], Any]], ...] = tuple(
    (Reading._fields.index(name), make)
    for name, make in {
        "state": {state.value: state for state in RunState}.__getitem__,
        "progress": Progress._make,
        "numbers": tuple,
        "measured": Measured._make,
        "prediction": Prediction._make,
    }.items()
)


def _readings(texts: Iterable[str]) -> list[Reading]:
    found = []
    for values in _documents(texts):
        for place, make in _MADE:
            if values[place] is not None:
                values[place] = make(values[place])
        found.append(Reading._make(values))
    return found


def _documents(texts: Iterable[str]) -> Iterator[Any]:
    """Yield what JSON texts hold, read many at once, which takes a third of the time."""
    left = iter(texts)
    while part := list(islice(left, 1000)):
        try:
            found = from_json(f"[{','.join(part)}]")
        except ValueError:  # this reader alone refuses what is nested deeply
            found = [json.loads(text) for text in part]
        yield from found
