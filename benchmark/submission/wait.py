"""Wait until runs have left Slurm's queue, asking Slurm rarely. Imports no torch.

Results are files, which cost slurmctld nothing, so they are looked at often; the queue, which
alone tells of runs that ended without a result, only every refresh.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from benchmark.base.log import say
from benchmark.base.words import count
from benchmark.run.directory import RunDir
from benchmark.run.reading import read
from benchmark.run.state import ENDED
from benchmark.slurm import queue_cache
from benchmark.slurm.commands import SlurmUnreachableError
from benchmark.slurm.queue import QueueSnapshot, TaskState
from benchmark.submission import marks
from benchmark.submission.folder import Folder
from benchmark.submission.sent import in_queue, runs_in_queue, sent_arrays

_LOOK_SECONDS = 2.0
_QUESTION = queue_cache.Question(since=0.0, accounting=False)


def wait_for(keys: Iterable[str], runs_dir: Path, refresh_seconds: float) -> int:
    """Return when none of these runs is queued: 0 if each has its result, else 1.

    Also where all that is left is held, since nothing would happen any more.
    """
    left = set(keys)
    total = len(left)
    began = time.time()
    ask_at = began + queue_cache.pause(refresh_seconds)
    said = ""
    while True:
        left = _without_result(left, runs_dir)
        if not left:
            say(f"{total} of {total} runs have their result")
            return 0
        if time.time() >= ask_at:
            ask_at = time.time() + queue_cache.pause(refresh_seconds)
            states = _look(left, runs_dir, refresh_seconds, began)
            if states is not None:
                left = _without_result(left, runs_dir)
                said = _tell(total - len(left), total, states, said)
                if all(state.held for state in states.values()):
                    if left:
                        say(f"ended without a result, or held: {count(len(left), 'run')}")
                    return int(bool(left))
        # A look at 10,000 files of a network file system may take seconds itself.
        time.sleep(_LOOK_SECONDS + len(left) / 1000)


def wait_for_tasks(folder: Folder, runs_dir: Path, refresh_seconds: float) -> int:
    """Return when no task of a submission waits or runs: 0, or 1 where some noted a failure."""
    began = time.time()
    while True:
        time.sleep(queue_cache.pause(refresh_seconds))
        snapshot = _news(refresh_seconds, began)
        if snapshot is None:
            continue
        sent = [array for array in sent_arrays(runs_dir) if array.folder == folder]
        works = in_queue((work for array in sent for work in array.works()), snapshot)
        if not any(work.living or work.state.name == "ending" for work in works):
            return int(bool(marks.reasons(folder)))


def _look(
    left: set[str], runs_dir: Path, refresh_seconds: float, began: float
) -> dict[str, TaskState] | None:
    """Return the tasks of the runs that are left; None if Slurm says nothing new."""
    snapshot = _news(refresh_seconds, began)
    if snapshot is None:
        return None
    queued = runs_in_queue(runs_dir, snapshot)
    return {key: work.state for key, work in queued.items() if key in left}


def _news(refresh_seconds: float, began: float) -> QueueSnapshot | None:
    """Return what Slurm says; None, with the reason said, if it has not answered since."""
    try:
        answer = queue_cache.read(_QUESTION, refresh_seconds)
    except SlurmUnreachableError as error:
        say(str(error))
        return None
    if answer.warning is not None:
        say(answer.warning)
    if answer.warning is not None or answer.snapshot.taken < began:
        return None
    return answer.snapshot


def _without_result(keys: set[str], runs_dir: Path) -> set[str]:
    return {key for key in keys if read(RunDir(runs_dir, key)).state not in ENDED}


def _words(state: TaskState) -> str:
    """Return how a task stands; one that waits, for what (a limit may keep it for ever)."""
    waits = state.name in ("waiting", "requeued") and state.detail
    return f"{state.name} ({state.detail})" if waits else state.name


def _tell(done: int, total: int, states: dict[str, TaskState], said: str) -> str:
    counts = Counter(_words(state) for state in states.values())
    parts = [f"{number} {words}" for words, number in sorted(counts.items())]
    text = ", ".join([f"{done} of {total} runs have their result", *parts])
    if text != said:
        say(text)
    return text
