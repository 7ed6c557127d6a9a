"""Remove what finished runs no longer need. Results, records and weights always stay.

Imports no torch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmark.base.errors import UserError
from benchmark.base.inside import remove
from benchmark.monitor.look import Seen, look
from benchmark.monitor.wanted import table_name
from benchmark.run.answers import answers_root
from benchmark.run.directory import RunDir
from benchmark.run.state import ENDED
from benchmark.submission.folder import Folder
from benchmark.submission.sent import code_in_use, note_cleaned, submitted_tables
from benchmark.submission.snapshot import code_store

OLD_DAYS = 7.0


class Removable(NamedTuple):
    """A file or folder that is not needed any more, with what it occupies.

    ``kind``: in words, of which the first is counted.
    """

    path: Path
    kind: str
    size: int  # bytes
    inodes: int


@dataclass(frozen=True)
class Cleaned:
    """What was removed, or (``dry_run``) would be; ``problems``: a line for what stayed."""

    runs_dir: Path
    removed: tuple[Removable, ...]
    dry_run: bool
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def clean(
    runs_dir: Path,
    table: str | None,
    *,
    drops: bool = False,
    answers: bool = False,
    older_than: float = OLD_DAYS,
    dry_run: bool = False,
) -> Cleaned:
    """Remove checkpoints of finished runs, submissions that have long ended, and their code.

    ``drops``: also the checkpoints kept where the learning rate drops. ``answers``: also what
    this user's teachers answered, which is asked for again. ``older_than``: days
    since a submission was last written to.
    """
    name = None if table is None else table_name(table, submitted_tables(runs_dir))
    seen = look(runs_dir, table=name)
    ended = list(submissions(seen, older_than))
    found = [*checkpoints(runs_dir, seen, drops), *ended]
    found += kept_answers(runs_dir) if answers else []
    found += code_copies(runs_dir, {item.path for item in ended}, older_than)
    if not dry_run:
        _note(runs_dir, seen, {item.path for item in ended})
    problems = [] if dry_run else [text for item in found if (text := _remove(runs_dir, item.path))]
    return Cleaned(runs_dir, tuple(found), dry_run, tuple(problems), seen.warnings)


def checkpoints(runs_dir: Path, seen: Seen, drops: bool) -> Iterator[Removable]:
    """Yield what finished runs would resume from."""
    for key, standing in seen.standings.items():
        if standing.name not in ENDED:
            continue
        rundir = RunDir(runs_dir, key)
        paths = [rundir.checkpoint, rundir.previous_checkpoint, rundir.next_checkpoint]
        paths += rundir.path.glob(".*.tmp")
        paths += rundir.drop_checkpoints() if drops else []
        for path in paths:
            if path.exists():
                yield Removable(path, "checkpoint of finished runs", path.stat().st_size, 1)


def submissions(seen: Seen, older_than: float) -> Iterator[Removable]:
    """Yield folders of submissions of which nothing lives and nothing is left to do.

    Without an answer from Slurm those that went there are kept.
    """
    folders: dict[Folder, list[str]] = {}
    kept: set[Folder] = set()
    for work in seen.packs:
        folders.setdefault(work.folder, []).extend(work.keys)
        if work.living or work.state.name == "ending" or (work.in_slurm and seen.snapshot is None):
            kept.add(work.folder)
    for folder, keys in folders.items():
        age = (time.time() - folder.path.stat().st_mtime) / 86400
        ended = all(seen.standings[key].name in ENDED for key in keys)
        if folder not in kept and ended and age >= older_than:
            size, inodes = _occupied(folder.path)
            yield Removable(folder.path, "folder of ended submissions", size, inodes)


def kept_answers(runs_dir: Path) -> Iterator[Removable]:
    """Yield the folders of what teachers answered.

    A process that reads one meanwhile goes on with the files that it has open, or asks itself.
    """
    root = answers_root(runs_dir)
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if folder.is_dir() and not folder.is_symlink():
            yield Removable(folder, "folder of teachers' answers", *_taken(folder))


def code_copies(runs_dir: Path, gone: Collection[Path], older_than: float) -> Iterator[Removable]:
    """Yield copies of code that no submission but those ``gone`` names any more."""
    store = code_store(runs_dir)
    used = code_in_use(runs_dir, {Folder(path) for path in gone})
    if used is None or not store.is_dir():
        return
    real = {path.resolve() for path in used}  # each submission names it as its user spelt it
    for path in sorted(store.iterdir()):
        age = (time.time() - path.stat().st_mtime) / 86400
        if path.resolve() not in real and age >= older_than:
            yield Removable(path, "snapshot of code", *_occupied(path))


def _note(runs_dir: Path, seen: Seen, gone: Container[Path]) -> None:
    """Note what removed submissions trained, so that status still knows the table of each run."""
    tables: dict[str, dict[str, str]] = {}
    for work in seen.packs:
        if work.folder.path in gone:
            cells = dict(zip(work.keys, work.cells, strict=False))
            tables.setdefault(work.table, {}).update(cells)
    for table, runs in tables.items():
        note_cleaned(runs_dir, table, runs)


def _taken(folder: Path) -> tuple[int, int]:
    """Return the bytes that the files of a folder take of the disk, holes left out, and inodes."""
    sizes = [path.lstat().st_blocks * 512 for path in folder.iterdir()]
    return sum(sizes), 1 + len(sizes)


def _occupied(folder: Path) -> tuple[int, int]:
    size, inodes = 0, 1
    for place, inner, files in os.walk(folder):
        inodes += len(inner) + len(files)
        size += sum((Path(place) / name).lstat().st_size for name in files)
    return size, inodes


def _remove(runs_dir: Path, path: Path) -> str | None:
    """Remove a file or folder of the runs directory; return what went wrong."""
    # A copy of code is named by the whole path of its store.
    root = runs_dir if path.is_relative_to(runs_dir) else runs_dir.absolute()
    try:
        remove(root, path)
    except UserError as error:
        return f"{path} stays: {error}"
    except OSError as error:
        return f"{path} stays: {error.strerror}"
    return None
