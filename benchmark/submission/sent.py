"""Everything that was submitted from a runs directory, wherever it went: the only reader of it.

Imports no torch.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from benchmark.base.errors import UserError
from benchmark.base.files import read_json, write_json
from benchmark.base.log import logger, say
from benchmark.base.trust import own_name
from benchmark.run.identity import Run
from benchmark.run.pack_file import PackFile
from benchmark.slurm.notation import task_name
from benchmark.slurm.queue import QueueRecord, QueueSnapshot, TaskState
from benchmark.submission.folder import SCHEMA, Folder, submissions_dir
from benchmark.submission.marks import is_at_work, stopped, why_held
from benchmark.submission.record import NotedSubmission

UNKNOWN = TaskState("unknown")
_LIVING = ("waiting", "requeued", "running")


class SentArray(NamedTuple):
    """One array of a submission; what went to no cluster is one array too.

    ``job``: None if Slurm's answer was lost, or it was not asked. ``sent``: seconds since 1970;
    for Slurm when the submission was noted last. ``gpus``: what each of its tasks asked for.
    ``single``: a job that is no array, if a cluster takes none. ``cluster``: its name, empty
    if that was not noted.
    """

    folder: Folder
    table: str
    executor: str
    number: int
    nonce: str
    job: int | None
    sent: float = 0.0
    gpus: int = 0
    single: bool = False
    cluster: str = ""

    def in_queue(self, snapshot: QueueSnapshot) -> SentArray:
        """Return the array with its job looked up by its nonce if the answer was lost."""
        if self.job is not None:
            return self
        return self._replace(job=snapshot.jobs_by_nonce.get(self.nonce))

    def works(self) -> Iterator[Work]:
        """Yield the packs in the order of their tasks; none if the index is unreadable."""
        held = why_held(self.folder)
        for number, (pack_id, label, keys, cells) in enumerate(self.folder.entries(self.number)):
            yield Work(self, number, pack_id, label, keys, cells, self.job, held=held)


class Work(NamedTuple):
    """One pack that was submitted: task ``number`` of its array.

    ``state``: of its task, or of this machine's queue (``waiting`` while its process lives:
    its leases tell which packs it trains). ``start``: when the task started, if Slurm says so.
    ``gpus``: what a task asks for. ``held``: why its submission starts no tasks, empty if it
    does. ``stopped``: who stopped the process of a submission to this machine.
    """

    array: SentArray
    number: int
    id: str
    label: str
    keys: tuple[str, ...]
    cells: tuple[str, ...]
    job: int | None = None
    state: TaskState = UNKNOWN
    start: float | None = None
    gpus: int = 0
    held: str = ""
    stopped: str = ""

    @property
    def folder(self) -> Folder:
        """Its submission."""
        return self.array.folder

    @property
    def table(self) -> str:
        """The table that was submitted."""
        return self.array.table

    @property
    def living(self) -> bool:
        """Whether it waits or runs."""
        return self.state.name in _LIVING

    @property
    def in_slurm(self) -> bool:
        """Whether it went to a cluster."""
        return self.array.executor == "slurm"

    @property
    def place(self) -> tuple[int, int] | None:
        """The array's job and the number in it, None if the answer to its array was lost."""
        return None if self.job is None else (self.job, self.number)

    @property
    def task(self) -> str | None:
        """Its task as Slurm's commands name it: 1234_5."""
        if self.job is None:
            return None
        return task_name(self.job, self.number, not self.array.single)

    @property
    def log(self) -> Path:
        """Where its output goes once it runs."""
        folder = self.folder
        return folder.task_log(self.task) if self.in_slurm else folder.pack_log(self.id)

    def pack(self) -> PackFile:
        """Read all that it trains. Raises UserError if that cannot be read."""
        return self.folder.read(self.array.number, self.number)


# -- folders --------------------------------------------------------------------------------------


_only_shown: ContextVar[bool] = ContextVar("only_shown", default=False)


@contextlib.contextmanager
def only_shown() -> Iterator[None]:
    """Go on without submissions that cannot be read, with a note: nothing is done by them."""
    token = _only_shown.set(True)
    try:
        yield
    finally:
        _only_shown.reset(token)


def own_folders(runs_dir: Path) -> list[Folder]:
    """Return the user's own submission folders, to whatever executor they went, oldest first.

    Raises UserError if they cannot be read, except within :func:`only_shown`.
    """
    place = submissions_dir(runs_dir)
    if not place.is_dir():
        return []
    try:
        mine = [
            (entry.stat().st_mtime, Path(entry.path))
            for entry in list(os.scandir(place))
            if entry.is_dir(follow_symlinks=False) and entry.stat().st_uid == os.geteuid()
        ]
    except PermissionError as error:
        if not _only_shown.get():
            raise UserError(f"cannot read the submissions in {place}: {error.strerror}") from error
        _say_unread(place, str(error.strerror))
        return []
    return [Folder(path) for _, path in sorted(mine)]


@cache
def _say_unread(place: Path, reason: str) -> None:
    say(f"cannot read the submissions in {place} ({reason}): what waits or runs is not shown")


def sent_arrays(runs_dir: Path) -> list[SentArray]:
    """Return the user's own arrays, oldest first; other people's folders are passed over."""
    return [array for folder in own_folders(runs_dir) for array in _arrays(folder)]


def _arrays(folder: Folder) -> list[SentArray]:
    folder.modernise()
    # A folder without a record is being written, or is no submission.
    with contextlib.suppress(UserError, OSError):
        try:
            data = NotedSubmission.model_validate(folder.read_record())
        except ValidationError as error:
            field = ".".join(map(str, error.errors()[0]["loc"]))
            logger.warning("%s is damaged and passed over: its '%s'", folder.record, field)
            return []
        created = data.created if data.executor != "slurm" else None
        sent = folder.record.stat().st_mtime if created is None else created
        return [
            SentArray(
                folder=folder,
                table=data.table,
                executor=data.executor,
                number=number,
                nonce=array.nonce,
                job=array.job,
                sent=sent,
                gpus=array.gpus,
                single=array.single,
                cluster=data.cluster,
            )
            for number, array in enumerate(data.arrays)
        ]
    return []


def submitted_tables(runs_dir: Path) -> set[str]:
    """Return the names of the tables that this user submitted from a runs directory."""
    return {array.table for array in sent_arrays(runs_dir)} | set(cleaned_runs(runs_dir))


def code_in_use(runs_dir: Path, without: Container[Folder] = ()) -> set[Path] | None:
    """Return the copies of code that the user's submissions name, those ``without`` left out.

    None if a submission does not tell.
    """
    found: set[Path] = set()
    for folder in own_folders(runs_dir):
        if folder in without or not folder.packs(0).exists():
            continue
        try:
            record = folder.read_record()
            if record.get("executor", "slurm") == "slurm":
                found.add(Path(record["code"]))
        except (UserError, KeyError, TypeError):
            return None
    return found


# -- packs ----------------------------------------------------------------------------------------


def slurm_work(runs_dir: Path) -> list[Work]:
    """Return the user's packs in Slurm, oldest first, as the files tell: in unknown states."""
    return [
        work
        for array in sent_arrays(runs_dir)
        if array.executor == "slurm"
        for work in array.works()
    ]


def local_work(runs_dir: Path) -> Iterator[Work]:
    """Yield the packs that were queued on a machine, or trained in a process, oldest first."""
    for array in sent_arrays(runs_dir):
        if array.executor == "slurm":
            continue
        alive = is_at_work(array.folder.path)
        by = "" if alive else stopped(array.folder)
        for work in array.works():
            reason = "Held" if work.held and alive else ""
            state = TaskState("waiting" if alive else "ended", reason)
            yield work._replace(state=state, stopped=by)


def in_queue(works: Iterable[Work], snapshot: QueueSnapshot) -> list[Work]:
    """Return packs with what a snapshot of the queue knows of their tasks."""
    queued: dict[tuple[int, int], tuple[QueueRecord, TaskState]] = {}
    for record in snapshot.queued:
        known = (record, record.task_state)
        queued.update({(record.job, number): known for number in record.tasks})
    found = []
    for work in works:
        job = work.job if work.job is not None else work.array.in_queue(snapshot).job
        place = (job, work.number) if job is not None else None
        newer = work.array.sent > snapshot.taken
        if place is not None and place in queued:
            record, state = queued[place]
            if record.ending:
                state = snapshot.task(*place)
            work = work._replace(job=job, state=state, start=record.start, gpus=record.gpus)
        elif place is not None and place in snapshot.ended:
            # If sacct still shows it as open it has only just left the queue.
            work = work._replace(job=job, state=snapshot.task(*place))
        elif newer:
            work = work._replace(state=TaskState("waiting"))
        elif place is not None and snapshot.disabled:
            # Without accounting squeue is all there is, and it shows whatever has not ended.
            work = work._replace(job=job, state=TaskState("ended"))
        found.append(work)
    return found


def runs_in_queue(runs_dir: Path, snapshot: QueueSnapshot) -> dict[str, Work]:
    """Return for each run whose task waits or runs its pack, by key.

    The packs of the past are not read.
    """
    found: dict[str, Work] = {}
    for array in sent_arrays(runs_dir):
        array = array.in_queue(snapshot)
        records = snapshot.by_job.get(array.job, ()) if array.job is not None else ()
        if not records:
            continue
        living = [record for record in records if not record.ending]
        states = {number: record.task_state for record in living for number in record.tasks}
        for work in array.works():
            if work.number not in states:
                continue
            work = work._replace(state=states[work.number])
            for key in work.keys:
                # A run may wait in one submission while it runs in another.
                if key not in found or work.state.name == "running":
                    found[key] = work
    return found


def busy_keys(runs_dir: Path) -> set[str]:
    """Return the runs that living processes of this user have or will come to."""
    return {key for work in local_work(runs_dir) if work.living for key in work.keys}


def runs_beside(runs_dir: Path, table: str, running: Collection[str]) -> dict[str, Run]:
    """Return the runs of a table's submissions that train some of ``running``, by key.

    A submission does not tell whether it still lives. While one of its runs is being trained it
    does, and those of its runs that were not started yet are queued; so nothing asks Slurm. Each
    of ``running`` is taken to be of the newest submission that holds it. A pack that another
    version wrote tells nothing.
    """
    found: dict[str, Run] = {}
    left = set(running)
    for folder in reversed(own_folders(runs_dir)):
        if not left:
            break
        arrays = [array for array in _arrays(folder) if array.table == table]
        held = {key for array in arrays for e in folder.entries(array.number) for key in e.keys}
        if not left & held:
            continue
        left -= held
        for array in arrays:
            with contextlib.suppress(UserError):
                for pack in folder.read_all(array.number):
                    found.update(zip(pack.keys, pack.runs, strict=True))
    return found


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


# -- submissions that were cleaned away -----------------------------------------------------------


def cleaned_runs(runs_dir: Path) -> dict[str, dict[str, str]]:
    """Return the finished runs of the user's submissions that were removed, by table.

    Each run with its cell; none if nothing was removed or the list cannot be read.
    """
    path = _cleaned(runs_dir)
    try:
        if path.lstat().st_uid != os.geteuid():  # another user's, under this one's name
            return {}
        tables = read_json(path, SCHEMA)["tables"]
        return {str(name): dict(runs) for name, runs in tables.items()}
    except (OSError, UserError, KeyError, TypeError, ValueError, AttributeError):
        return {}


def note_cleaned(runs_dir: Path, table: str, runs: Mapping[str, str]) -> None:
    """Note finished runs, and their cells, before their submission is removed."""
    known = cleaned_runs(runs_dir)
    known[table] = {**known.get(table, {}), **runs}
    write_json(_cleaned(runs_dir), {"schema": SCHEMA, "tables": known})


def _cleaned(runs_dir: Path) -> Path:
    return submissions_dir(runs_dir) / f"cleaned-{own_name()}.json"
