"""What happens to the files of a run: every kind of damage, and the word that it has for it."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmark.run.directory import RunDir
from benchmark.run.lease import Lease
from benchmark.run.state import RunState

Damage = Callable[[Path], None]


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    path.write_text('{"colour": "blue"}')


def newer(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 7}))


def nested(path: Path) -> None:
    path.write_bytes(b"[" * 100_000)


def folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)


def dangling(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/nonexistent/file")


def zeroes(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def unreadable(path: Path) -> None:
    path.chmod(0)


def gone(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def a_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("in the way")


def renamed_over(path: Path) -> None:
    """Another run's directory in the place of this one."""
    other = next(p for p in path.parent.glob("digits-*") if p != path)
    shutil.rmtree(path)
    shutil.copytree(other, path)


def dangling_folder(path: Path) -> None:
    shutil.rmtree(path)
    path.symlink_to("/nonexistent/folder")


def _with_numbers(path: Path, number: str) -> None:
    named = r'("(?!schema|seed)\w+": ?)-?[0-9][0-9.e+-]*'
    path.write_text(re.sub(named, rf"\g<1>{number}", path.read_text()))


def infinite(path: Path) -> None:
    _with_numbers(path, "1e999")


def endless(path: Path) -> None:
    """Whole numbers that no float holds."""
    _with_numbers(path, "9" * 400)


def far(path: Path) -> None:
    """A last line whose epoch no float holds, with usual seconds."""
    with path.open("a") as file:
        file.write(json.dumps({"epoch": int("9" * 400), "seconds": 1.5}) + "\n")


def lost_while_held(path: Path) -> None:
    """The cell gone while a living process, this one, holds the run."""
    path.unlink()
    Lease.acquire(RunDir(path.parent.parent, path.parent.name))


def silent_elsewhere(path: Path) -> None:
    """The lease of a process on another machine, which was last heard of an hour ago."""
    holder = {"token": "abc", "host": "elsewhere", "boot": "b", "pid": 1, "pid_start": "1"}
    path.write_text(json.dumps({"schema": 1, "job": None, "restart": 0, **holder}))
    os.utime(path, (time.time() - 3600,) * 2)


CONTENT = (truncated, emptied, foreign, newer, nested)
NO_FILE = (folder, pipe, dangling, zeroes)


def cases() -> Iterator[tuple[bool, str, Damage, RunState]]:
    """Yield whether the run is finished, the damaged file, what is done, and the word for it."""
    for damage in (*CONTENT, *NO_FILE, huge, unreadable):
        yield True, "result", damage, RunState.DAMAGED
        yield True, "cell", damage, RunState.DAMAGED
        yield False, "cell", damage, RunState.DAMAGED
    for damage in (truncated, foreign, folder, pipe, huge, unreadable):
        # What a finished run does not need any more.
        for name in ("records", "provenance", "lease", "failure", "checkpoint"):
            yield True, name, damage, RunState.DONE
        yield False, "provenance", damage, RunState.DAMAGED
    for name in ("records", "lease", "failure"):
        for damage in NO_FILE[:2]:
            yield False, name, damage, RunState.DAMAGED
    for damage in (infinite, endless):
        yield True, "result", damage, RunState.DAMAGED
        yield True, "cell", damage, RunState.DAMAGED
        yield False, "cell", damage, RunState.DAMAGED
        yield False, "records", damage, RunState.STOPPED
        yield False, "provenance", damage, RunState.STOPPED
        yield False, "failure", damage, RunState.FAILED
    yield True, "lease", silent_elsewhere, RunState.DONE
    yield False, "lease", silent_elsewhere, RunState.STOPPED
    yield False, "records", foreign, RunState.STOPPED
    yield False, "records", huge, RunState.STOPPED
    yield False, "failure", truncated, RunState.FAILED
    yield False, "failure", huge, RunState.FAILED
    yield True, "cell", gone, RunState.DAMAGED
    yield False, "cell", gone, RunState.MISSING
    yield False, "cell", lost_while_held, RunState.RUNNING
    yield False, "records", far, RunState.STOPPED
    yield True, "result", gone, RunState.STOPPED
    for damage in (a_file, renamed_over, dangling_folder, unreadable):
        yield True, "path", damage, RunState.DAMAGED
    yield True, "path", gone, RunState.MISSING
