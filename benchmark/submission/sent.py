"""Everything that was submitted from a runs directory, to Slurm or to a queue of this machine.

Imports no torch.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmark.slurm.queue import Queued, Snapshot, TaskState
from benchmark.submission import marks
from benchmark.submission.at_work import is_at_work
from benchmark.submission.folders import SentArray, cleaned_runs, own_folders, sent_arrays

UNKNOWN = TaskState("unknown")
PAUSED = "paused.json"
_LIVING = ("waiting", "requeued", "running")


class Work(NamedTuple):
    """One pack that was submitted.

    ``state``: of its task, or of this machine's queue (``waiting`` while its process lives:
    its leases tell which packs it trains). ``start``: when the task started, where Slurm says
    so. ``gpus``: what a task asks for. ``held``: why its submission starts no tasks, empty
    where it does.
    """

    folder: Path
    table: str
    id: str
    label: str
    keys: tuple[str, ...]
    cells: tuple[str, ...]
    array: SentArray | None = None  # in Slurm, with the number of its task there
    number: int = 0
    job: int | None = None
    state: TaskState = UNKNOWN
    start: float | None = None
    gpus: int = 0
    held: str = ""

    @property
    def living(self) -> bool:
        """Whether it waits or runs."""
        return self.state.name in _LIVING

    @property
    def in_slurm(self) -> bool:
        """Whether it went to a cluster."""
        return self.array is not None

    @property
    def place(self) -> tuple[int, int] | None:
        """The array's job and the number in it, None where the answer to its array was lost."""
        return None if self.job is None else (self.job, self.number)

    @property
    def task(self) -> str | None:
        """Its task as Slurm's commands name it: 1234_5."""
        return None if self.job is None else f"{self.job}_{self.number}"

    @property
    def log(self) -> Path:
        """Where its output goes once it runs."""
        if self.in_slurm:
            return self.folder / f"{self.task}_0_log.out"
        return self.folder / "logs" / f"{self.id}.log"


def slurm_work(runs_dir: Path) -> list[Work]:
    """Return the user's packs in Slurm, oldest first, as the files tell: in unknown states."""
    found = []
    for array in sent_arrays(runs_dir):
        held = why_held(array.folder)
        found += [
            Work(
                folder=pack.folder,
                table=pack.table,
                id=pack.pack_id,
                label=pack.label,
                keys=pack.run_keys,
                cells=pack.cells,
                array=array,
                number=number,
                job=array.job,
                held=held,
            )
            for number, pack in enumerate(array.packs())
        ]
    return found


def in_queue(works: Iterable[Work], snapshot: Snapshot) -> list[Work]:
    """Return packs with what a snapshot of the queue knows of their tasks."""
    queued: dict[tuple[int, int], tuple[Queued, TaskState]] = {}
    for record in snapshot.queued:
        known = (record, record.task_state)
        queued.update({(record.job, number): known for number in record.tasks})
    found = []
    for work in works:
        assert work.array is not None
        job = work.job if work.job is not None else work.array.in_queue(snapshot).job
        place = (job, work.number) if job is not None else None
        newer = work.array.sent > snapshot.taken
        if place is not None and place in queued:
            record, state = queued[place]
            work = work._replace(job=job, state=state, start=record.start, gpus=record.gpus)
        elif place is not None and place in snapshot.ended:
            # Where sacct still shows it as open it has only just left the queue.
            work = work._replace(job=job, state=snapshot.task(*place))
        elif newer:
            work = work._replace(state=TaskState("waiting"))
        elif place is not None and snapshot.disabled:
            # Without accounting squeue is all there is, and it shows whatever has not ended.
            work = work._replace(job=job, state=TaskState("ended"))
        found.append(work)
    return found


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
                    id=data["id"],
                    label=data["label"],
                    keys=tuple(data["keys"]),
                    cells=tuple(data["cells"]),
                    state=state,
                    held=held,
                )


def busy_keys(runs_dir: Path) -> set[str]:
    """Return the runs that living processes of this user have or will come to."""
    return {key for work in local_work(runs_dir) if work.living for key in work.keys}


def local_folders(runs_dir: Path) -> list[Path]:
    """Return the user's submission folders that went to no cluster, oldest first."""
    return [
        folder
        for folder in own_folders(runs_dir)
        if not (folder / "submission.json").exists() and (folder / "packs").is_dir()
    ]


def why_held(folder: Path) -> str:
    """Return why a submission does not start what waits; empty where it does."""
    return marks.held(folder) or paused(folder) or ""


def paused(folder: Path) -> str | None:
    """Return who paused a submission, None where nobody did."""
    return marks.read_mark(folder / PAUSED)


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
    found = {array.table for array in sent_arrays(runs_dir)} | set(cleaned_runs(runs_dir))
    return found | {work.table for work in local_work(runs_dir)}
