"""One view of the queue for all of a user's watchers, refreshed gently.

The texts of the last refresh lie in the user's private state folder; whoever finds them too
old refreshes them for everybody. If Slurm answers slowly or not at all the pause between
refreshes doubles, up to ten minutes. Where that folder cannot be written (a full disk), Slurm
is asked each time. Imports no torch.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.base.files import write_json
from benchmark.slurm import commands, queue

SCHEMA = 3  # of the columns that squeue is asked for
SLOW_SECONDS = 5.0
LONGEST_PAUSE = 600.0


class Question(NamedTuple):
    """What the queue is asked for; watchers that ask the same share the answer."""

    since: float  # seconds since 1970
    names: tuple[str, ...] = ()
    all_users: bool = False
    accounting: bool = True

    @property
    def file(self) -> Path:
        """Where the answer is kept. The hour of ``since`` is enough to tell questions apart."""
        text = repr((self.since // 3600, sorted(self.names), self.all_users, self.accounting))
        asked = commands.environment()
        cluster = asked.get("SLURM_CONF", "") + asked.get("SLURM_CLUSTERS", "")
        digest = hashlib.sha256((text + cluster).encode()).hexdigest()[:16]
        return commands.state_dir() / f"queue-{digest}.json"


class Answer(NamedTuple):
    """A snapshot, and why it is older than it should be, if it is."""

    snapshot: queue.QueueSnapshot
    warning: str | None = None


def read(question: Question, max_age: float, insist: bool = False) -> Answer:
    """Return the queue, at most ``max_age`` seconds old if Slurm answers.

    ``insist``: ask even if Slurm was silent a moment ago. Raises SlurmError where it does
    not answer and nothing is known from before.
    """
    with _locked(question) as file:
        known = _load(file)
        now = time.time()
        rest = max_age if insist or not known else max(max_age, known["pause"])
        if known and 0 <= now - known["asked"] < rest:
            return _answer(known, now)
        try:
            raw = queue.read_raw(*question)
        except commands.SlurmUnreachableError as error:
            if not known:
                raise
            known |= {"asked": now, "pause": _longer(known["pause"], max_age)}
            known["failure"] = str(error)
            _save(file, known)
            return _answer(known, now)
        slow = time.time() - now > SLOW_SECONDS
        pause = _longer(known["pause"] if known else 0.0, max_age) if slow else 0.0
        fresh = {"schema": SCHEMA, "asked": now, "raw": list(raw), "pause": pause, "failure": None}
        _save(file, fresh)
        return _answer(fresh, now)


def pause(refresh_seconds: float) -> float:
    """Return how long a watcher waits: never in step with the others."""
    return refresh_seconds * random.uniform(1.0, 1.25)


def _longer(current: float, shortest: float) -> float:
    return min(max(current, shortest) * 2, LONGEST_PAUSE)


def _load(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) and data.get("schema") == SCHEMA else None


def _save(path: Path | None, data: dict[str, Any]) -> None:
    if path is not None:
        with suppress(OSError):
            write_json(path, data)


def _answer(data: dict[str, Any], now: float) -> Answer:
    snapshot = queue.parse(queue.RawQueue(*data["raw"]))
    if data["failure"] is None:
        return Answer(snapshot)
    age = max(0.0, now - snapshot.taken)
    return Answer(snapshot, f"{data['failure']}; this is what it said {age:.0f} s ago")


@contextmanager
def _locked(question: Question) -> Iterator[Path | None]:
    """Hold a question's file; None if there can be none."""
    with ExitStack() as held:
        path: Path | None = None
        with suppress(OSError):
            lock = held.enter_context(question.file.with_suffix(".lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            path = question.file
        yield path
