"""A private index of run directories, so that collecting 100,000 runs takes seconds.

The directories are the truth. The index is a cache in the user's own cache folder, brought up
to date from directory times at every use, rebuilt when it is damaged, and safe to delete.
Imports no torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from benchmark.files import read_json
from benchmark.rundir import RunDir
from benchmark.runs import SCHEMA, Run
from benchmark.yamlfile import validate

STATISTICS = ("last", "best", "median_of_last_5", "mean_of_last_5")
METRICS = ("top1", "top5")
_VALUES = tuple(f"{metric}_{statistic}" for metric in METRICS for statistic in STATISTICS)
# Raised whenever the tables below change: an index of another layout is thrown away.
_LAYOUT = 1
_TABLES = f"""
create table if not exists cells (cell text primary key, signature text, identity text);
create table if not exists runs (
    key text primary key, mtime integer, cell text, signature text, seed integer,
    teacher text, state text, reason text, val_top1 real, {", ".join(f"{v} real" for v in _VALUES)}
);
create index if not exists by_signature on runs (signature);
"""


@dataclass(frozen=True)
class IndexedRun:
    """One run directory as collecting sees it.

    ``state``: done, diverged, open (no result yet), or broken with a ``reason``. ``teacher``:
    the key of its teacher's run or the digest of its checkpoint. ``values``: percent by
    metric and statistic.
    """

    key: str
    cell: str
    seed: int
    teacher: str | None
    state: str
    reason: str | None
    val_top1: float | None
    values: dict[tuple[str, str], float]


def signature(run: Run) -> str:
    """Return what a run and a slot must have in common to belong together, overrides or not."""
    teacher = run.teacher.model if run.teacher else ""
    return "|".join([run.dataset.name, teacher, run.model, *(m.name for m in run.methods)])


class RunIndex:
    """The index of one runs directory."""

    def __init__(self, runs_dir: Path, cache_dir: Path | None = None) -> None:
        self.runs_dir = runs_dir
        cache = cache_dir or _cache_dir()
        name = hashlib.sha256(str(runs_dir.resolve()).encode()).hexdigest()[:16]
        self._path = cache / f"runs-{name}-v{_LAYOUT}.sqlite"
        self._database = self._open()

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            return self._connect(str(self._path))
        except sqlite3.DatabaseError:
            self._path.unlink(missing_ok=True)  # damaged: it is only a cache
            return self._connect(str(self._path))
        except OSError:
            return self._connect(":memory:")  # no place for a cache: read everything

    @staticmethod
    def _connect(path: str) -> sqlite3.Connection:
        database = sqlite3.connect(path, timeout=60)
        database.executescript(_TABLES)
        return database

    def refresh(self) -> None:
        """Bring the index up to date: directories whose time changed are read again.

        Raises UserError where the runs directory cannot be read.
        """
        known = dict(self._database.execute("select key, mtime from runs"))
        seen: set[str] = set()
        changed: list[tuple[str, int]] = []
        for key, mtime in _directories(self.runs_dir):
            seen.add(key)
            if known.get(key) != mtime:
                changed.append((key, mtime))
        gone = [(key,) for key in known if key not in seen]
        with self._database:
            self._database.executemany("delete from runs where key = ?", gone)
            for key, mtime in changed:
                self._read(key, mtime)

    def _read(self, key: str, mtime: int) -> None:
        rundir = RunDir(self.runs_dir, key)
        if not rundir.cell.exists():
            return  # not a run, or just being made
        try:
            run = rundir.read_run()
        except UserError as error:
            self._broken(rundir, mtime, str(error))
            return
        state, reason, values, val = _result(rundir)
        place = signature(run)
        self._database.execute(
            "insert or ignore into cells values (?, ?, ?)",
            (run.cell_key, place, json.dumps(run.cell_identity, sort_keys=True)),
        )
        teacher = run.teacher.key if run.teacher else None
        row = (key, mtime, run.cell_key, place, run.seed, teacher, state, reason, val)
        numbers = tuple(values.get(name) for name in _VALUES)
        marks = ", ".join("?" * (len(row) + len(numbers)))
        self._database.execute(f"insert or replace into runs values ({marks})", row + numbers)

    def _broken(self, rundir: RunDir, mtime: int, reason: str) -> None:
        # What it would have been is read leniently, so that it is missed in the right place.
        place = ""
        with contextlib.suppress(UserError, ValueError):
            place = signature(validate(Run, read_json(rundir.cell, SCHEMA), ""))
        self._database.execute(
            "insert or replace into runs (key, mtime, signature, state, reason)"
            " values (?, ?, ?, 'broken', ?)",
            (rundir.key, mtime, place, reason),
        )

    def runs(self, signatures: Iterable[str]) -> list[IndexedRun]:
        """Return the indexed runs of these signatures, broken ones included, by key."""
        wanted = sorted(set(signatures))
        columns = ", ".join(_VALUES)
        found = []
        for part in _batches(wanted, 500):
            marks = ", ".join("?" * len(part))
            query = (
                f"select key, cell, seed, teacher, state, reason, val_top1, {columns} from runs"
                f" where signature in ({marks}) order by key"
            )
            found += [_indexed(row) for row in self._database.execute(query, part)]
        return found

    def cells(self, signatures: Iterable[str]) -> dict[str, tuple[str, dict[str, Any]]]:
        """Return signature and identity of the cells of these signatures, by cell key."""
        found = {}
        for part in _batches(sorted(set(signatures)), 500):
            marks = ", ".join("?" * len(part))
            query = f"select cell, signature, identity from cells where signature in ({marks})"
            for cell, place, identity in self._database.execute(query, part):
                found[cell] = (place, json.loads(identity))
        return found

    def all_runs(self) -> list[IndexedRun]:
        """Return every indexed run, by key."""
        return self.runs(self._signatures())

    def all_cells(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Return signature and identity of every cell, by cell key."""
        return self.cells(self._signatures())

    def _signatures(self) -> list[str]:
        query = "select distinct signature from runs where signature != ''"
        return [signature for (signature,) in self._database.execute(query)]

    def broken(self) -> list[tuple[str, str]]:
        """Return key and reason of every run directory that cannot be counted."""
        query = "select key, reason from runs where state = 'broken' order by key"
        return [(key, reason) for key, reason in self._database.execute(query)]

    def count(self) -> int:
        """Return how many run directories there are."""
        (count,) = self._database.execute("select count(*) from runs").fetchone()
        return int(count)


def _cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "kd-benchmark"


def _directories(root: Path) -> Iterator[tuple[str, int]]:
    """Yield name and time of every subdirectory; one that vanishes meanwhile is passed over."""
    try:
        entries = os.scandir(root)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"cannot read the runs directory {root}: {error.strerror}") from error
    with entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            with contextlib.suppress(OSError):
                if entry.is_dir():
                    yield entry.name, entry.stat().st_mtime_ns


def _result(
    rundir: RunDir,
) -> tuple[str, str | None, dict[str, float], float | None]:
    """Return state, reason, values and held-out accuracy of a run from its result."""
    if not rundir.result.exists():
        return "open", None, {}, None
    try:
        result = read_json(rundir.result, SCHEMA)
        if result.get("key") != rundir.key:
            raise UserError(
                f"{rundir.result} is the result of {result.get('key')}, not of {rundir.key}"
            )
        if result["diverged"]:
            return "diverged", None, {}, None
        values = _numbers(result, rundir.result)
    except UserError as error:
        return "broken", str(error), {}, None
    except (KeyError, TypeError, ValueError) as error:
        return "broken", f"{rundir.result} is not a complete result ({error!r})", {}, None
    val = result.get("val_top1")
    return "done", None, values, float(val) if isinstance(val, int | float) else None


def _numbers(result: dict[str, Any], path: Path) -> dict[str, float]:
    found = {}
    for metric in METRICS:
        for statistic in STATISTICS:
            value = float(result["metrics"][metric][statistic])
            if not (math.isfinite(value) and 0.0 <= value <= 100.0):
                raise UserError(f"{path}: {metric} {statistic} is {value}, not a percentage")
            found[f"{metric}_{statistic}"] = value
    return found


def _indexed(row: tuple[Any, ...]) -> IndexedRun:
    key, cell, seed, teacher, state, reason, val, *numbers = row
    names = [(metric, statistic) for metric in METRICS for statistic in STATISTICS]
    values = {n: v for n, v in zip(names, numbers, strict=True) if v is not None}
    return IndexedRun(key, cell or "", seed or 0, teacher, state, reason, val, values)


def _batches(items: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
