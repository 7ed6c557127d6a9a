"""Everything that was submitted from a runs directory, to Slurm or to a queue of this machine.

Imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmark.cluster import hold
from benchmark.cluster.at_work import is_at_work
from benchmark.cluster.queue import Ended, Queued, Snapshot, TaskState
from benchmark.cluster.submissions import SentArray, sent_arrays

UNKNOWN = TaskState("unknown")
PAUSED = "paused.json"
_LIVING = ("waiting", "requeued", "running")


class Work(NamedTuple):
    """One pack that was submitted.

    ``state``: of its task, or of this machine's
    queue (``waiting`` while its process lives: its leases tell which packs it trains).
    ``start``: when the task started, where Slurm says so. ``gpus``: what a task asks for.
    ``content``: the file that holds all of it. ``held``: why its submission starts no tasks,
    empty where it does.
    """

    folder: Path
    table: str
    label: str
    keys: tuple[str, ...]
    cells: tuple[str, ...]
    log: Path | None
    in_slurm: bool
    content: Path
    place: tuple[int, int] | None = None  # array and number, in Slurm
    number: int | None = None  # of its line in ``content``
    state: TaskState = UNKNOWN
    start: float | None = None
    gpus: int = 0
    held: str = ""

    @property
    def task(self) -> str | None:
        """Its task as Slurm's commands name it: 1234_5."""
        return None if self.place is None else f"{self.place[0]}_{self.place[1]}"

    @property
    def living(self) -> bool:
        """Whether it waits or runs."""
        return self.state.name in _LIVING


def slurm_work(runs_dir: Path, snapshot: Snapshot | None) -> Iterator[Work]:
    """Yield the user's packs in Slurm, oldest first; unknown states without a snapshot."""
    for array in sent_arrays(runs_dir):
        yield from _array_work(array.in_queue(snapshot) if snapshot else array, snapshot)


def _array_work(array: SentArray, snapshot: Snapshot | None) -> Iterator[Work]:
    queued: dict[int, Queued] = {}
    ended: Mapping[tuple[int, int], Ended] = {}
    if snapshot is not None and array.job is not None:
        ended = snapshot.ended
        for record in snapshot.by_job.get(array.job, ()):
            queued.update(dict.fromkeys(record.tasks, record))
    held = why_held(array.folder)
    for number, pack in enumerate(array.packs()):
        found = queued.get(number)
        place = None if array.job is None else (array.job, number)
        state = found.task_state if found else UNKNOWN
        if snapshot is not None and found is None and place is not None and place in ended:
            # Has only just left the queue where sacct still shows it as open.
            state = snapshot.task(*place)
        yield Work(
            folder=pack.folder,
            table=pack.table,
            label=pack.label,
            keys=pack.run_keys,
            cells=pack.cells,
            log=None if pack.task is None else pack.folder / f"{pack.task}_0_log.out",
            in_slurm=True,
            content=pack.folder / f"array-{array.number}.jsonl",
            number=number,
            place=place,
            state=state,
            start=found.start if found else None,
            gpus=found.gpus if found else 0,
            held=held,
        )


def local_work(runs_dir: Path) -> Iterator[Work]:
    """Yield the packs that were queued on a machine, or trained in a process, oldest first."""
    for folder in local_folders(runs_dir):
        state = TaskState("waiting" if is_at_work(folder) else "ended")
        held = why_held(folder)
        if held and state.name == "waiting":
            state = TaskState("waiting", "Held")
        for path in sorted((folder / "packs").glob("*.json")):
            with contextlib.suppress(OSError, ValueError, KeyError):
                data = json.loads(path.read_text(encoding="utf-8"))
                yield Work(
                    folder=folder,
                    table=data["table"],
                    label=data["label"],
                    keys=tuple(data["keys"]),
                    cells=tuple(data["cells"]),
                    log=folder / "logs" / f"{data['id']}.log",
                    in_slurm=False,
                    content=path,
                    state=state,
                    held=held,
                )


def local_folders(runs_dir: Path) -> list[Path]:
    """Return the user's submission folders that went to no cluster, oldest first."""
    place = runs_dir / ".submissions"
    if not place.is_dir():
        return []
    mine = [
        (entry.stat().st_ctime, Path(entry.path))
        for entry in os.scandir(place)
        if entry.is_dir(follow_symlinks=False) and entry.stat().st_uid == os.geteuid()
    ]
    return [
        folder
        for _, folder in sorted(mine)
        if not (folder / "submission.json").exists() and (folder / "packs").is_dir()
    ]


def why_held(folder: Path) -> str:
    """Return why a submission does not start what waits; empty where it does."""
    return hold.held(folder) or paused(folder) or ""


def paused(folder: Path) -> str | None:
    """Return who paused a submission, None where nobody did."""
    try:
        return str(json.loads((folder / PAUSED).read_text(encoding="utf-8"))["reason"])
    except FileNotFoundError:
        return None


def latest(works: Iterable[Work]) -> dict[str, Work]:
    """Return for each run the pack that counts: a living one, else the one sent last."""
    found: dict[str, Work] = {}
    for work in works:
        for key in work.keys:
            known = found.get(key)
            if known is None or not _outlives(known, work):
                found[key] = work
    return found


def cells_of(works: Iterable[Work]) -> dict[str, str]:
    """Return the cell of each run, as far as the submissions say."""
    found: dict[str, str] = {}
    for work in works:
        found.update(zip(work.keys, work.cells, strict=False))
    return found


def _outlives(known: Work, later: Work) -> bool:
    if known.state.name == "running":
        return True
    return known.living and not later.living


def submitted_tables(runs_dir: Path) -> set[str]:
    """Return the names of the tables that this user submitted from a runs directory."""
    found = {array.table for array in sent_arrays(runs_dir)}
    return found | {work.table for work in local_work(runs_dir)}
