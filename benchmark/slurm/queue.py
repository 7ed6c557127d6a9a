"""What Slurm knows of our jobs: one squeue and one sacct call, however many jobs there are.

squeue is asked first and sacct second, so that a job which ends in between is seen at least
once. What squeue knows always wins: sacct lags by seconds, is empty right after a submission,
and shows NODE_FAIL as an end while the same job waits to run again. No row in either means
unknown, never gone. Imports no torch.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from benchmark.base.errors import UserError
from benchmark.base.words import short
from benchmark.slurm import commands
from benchmark.slurm.notation import IndexSet, Tag, gpus_asked, gpus_counted, parse_tag

_SQUEUE = (
    "ArrayJobID",
    "ArrayTaskID",
    "JobID",
    "State",
    "Reason",
    "RestartCnt",
    "StartTime",
    "SubmitTime",
    "tres-alloc",
    "tres-per-node",
    "NumNodes",
    "PriorityLong",
    "EndTime",
    "Partition",
    "NodeList",
    "UserName",
    "Name",
    "Comment",
)
_SACCT = (
    "JobID",
    "State",
    "ExitCode",
    "ElapsedRaw",
    "AllocTRES",
    "Submit",
    "End",
    "NodeList",
    "User",
    "JobName",
    "Comment",
)
# Slurm stamps a job before the submission that sent it has noted its id.
EARLIER_SECONDS = 3600.0
_LONGEST = 100_000  # characters of a field; a list of array tasks may be long
_NO_ACCOUNTING = "accounting storage is disabled"
_WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "REQUEUE_FED"})
# What sacct shows for a job that has not ended, or that it does not know to have ended.
_OPEN = frozenset({"PENDING", "RUNNING", "REQUEUED", "SUSPENDED", "RESIZING", "COMPLETING"})
# A job of priority 0 is held, whatever reason it names; while it waits for these, some versions
# show 0 for any job.
_NOT_HELD = frozenset({"Dependency", "BeginTime"})
# A COMPLETING job has ended at its end time, or it was requeued and has one that lies a whole
# time limit (a minute at least) ahead. Half of that is left to clocks that differ.
_CLOCKS_DIFFER = 30.0


class QueueRecord(NamedTuple):
    """One record of squeue: a task that runs, or all tasks of an array that wait together."""

    job: int  # the array's id
    tasks: IndexSet
    state: str
    reason: str
    restarts: int
    start: float | None  # seconds since 1970, None if it has not started
    submitted: float
    gpus: int  # a task; as it asked where this cluster does not count what it has
    partition: str
    nodes: str
    user: str
    tag: Tag
    held: bool = False
    ending: bool = False  # it is over, and Slurm is still clearing up after it
    counted: bool = True  # whether Slurm counts the GPUs that it has

    @property
    def waiting(self) -> bool:
        """Whether the tasks have yet to start (again)."""
        return self.state in _WAITING

    @property
    def task_state(self) -> TaskState:
        """The state of each of its tasks."""
        if self.ending:
            return TaskState("ending", self.nodes)
        if not self.waiting:
            return TaskState("running", self.nodes)
        says_so = not self.held or TaskState("", self.reason).held
        why = self.reason if says_so else f"{self.reason}, held"
        return TaskState("requeued" if self.restarts else "waiting", why)


class Ended(NamedTuple):
    """What sacct knows of a task: its latest state, and what its past starts used."""

    job: int
    task: int
    state: str
    exit_code: str  # "code:signal"
    elapsed: float  # seconds, over all starts that have ended
    gpu_seconds: float
    ended: float | None
    nodes: str
    user: str
    tag: Tag


class TaskState(NamedTuple):
    """One task: ``name`` is waiting, requeued, running, ending, ended or unknown.

    ``detail``: why it waits, or the state in which Slurm ended it.
    """

    name: str
    detail: str = ""

    @property
    def held(self) -> bool:
        """Whether it waits to be released: JobHeldUser, ``launch failed requeued held``."""
        return "held" in self.detail.lower()


@dataclass(frozen=True)
class QueueSnapshot:
    """The queue at one moment.

    ``accounting`` is False if sacct could not be asked; ``disabled``: since this cluster
    keeps no accounts, so that squeue is all there is to know.
    """

    queued: tuple[QueueRecord, ...]
    ended: dict[tuple[int, int], Ended] = field(default_factory=dict)
    taken: float = 0.0
    accounting: bool = True
    disabled: bool = False

    @property
    def silent(self) -> bool:
        """Whether there is accounting, but no answer from it."""
        return not self.accounting and not self.disabled

    @cached_property
    def by_job(self) -> dict[int, tuple[QueueRecord, ...]]:
        """The records of each array."""
        found: dict[int, list[QueueRecord]] = {}
        for record in self.queued:
            found.setdefault(record.job, []).append(record)
        return {job: tuple(records) for job, records in found.items()}

    @cached_property
    def jobs_by_nonce(self) -> dict[str, int]:
        """The array id of each nonce that squeue or sacct shows."""
        seen = [(r.tag.nonce, r.job) for r in self.ended.values()]
        seen += [(r.tag.nonce, r.job) for r in self.queued]
        return {nonce: job for nonce, job in seen if nonce}

    def task(self, job: int, number: int) -> TaskState:
        """Return what is known of one task."""
        for record in self.by_job.get(job, ()):
            if number in record.tasks and not record.ending:
                return record.task_state
            if number in record.tasks:
                past = self.ended.get((job, number))
                known = past is not None and past.state not in _OPEN
                return TaskState("ending", past.state if known and past else record.nodes)
        ended = self.ended.get((job, number))
        if ended is None or ended.state in _OPEN:
            return TaskState("unknown")
        return TaskState("ended", ended.state)


class RawQueue(NamedTuple):
    """The texts of squeue and sacct, as a cache keeps them.

    ``sacct``: None if it was not asked, or gave no answer; ``disabled``: since this cluster
    has no accounting. ``separator`` stands after every field, and between sacct's.
    """

    squeue: str
    sacct: str | None
    taken: float
    disabled: bool = False
    separator: str = "\x1f"


def read_raw(
    since: float,
    names: Iterable[str] = (),
    all_users: bool = False,
    accounting: bool = True,
    timeout: float = commands.TIMEOUT_SECONDS,
) -> RawQueue:
    """Ask squeue, then sacct, once each.

    ``since``: seconds since 1970; what ended before is left out. ``names``: the job names that
    sacct is asked for, all if empty. Raises SlurmError; a slurmdbd that does not answer
    only leaves sacct's part out.
    """
    separator = new_separator()
    # Without --all nothing is shown of partitions that are hidden.
    whose = ["--all"] if all_users else ["--all", "--me"]
    waiting = commands.ask(["squeue", "--noheader", *whose, _format(_SQUEUE, separator)], timeout)
    past, disabled = None, False
    if accounting:
        past, disabled = _ask_sacct(since, names, all_users, separator, timeout)
    return RawQueue(waiting, past, time.time(), disabled, separator)


def new_separator() -> str:
    """Return what separates fields in one answer, which no name or comment can hold by then.

    Names and comments are other users' text: with a separator that they know, a line of a comment
    could pass for a job of anybody's.
    """
    return f"\x1f{secrets.token_hex(6)}\x1f"


def _format(names: Iterable[str], separator: str) -> str:
    # A field that is followed by its own separator is printed at full length.
    return "--Format=" + ",".join(f"{name}:{separator}" for name in names)


def _ask_sacct(
    since: float, names: Iterable[str], all_users: bool, separator: str, timeout: float
) -> tuple[str | None, bool]:
    """Return sacct's answer, None where it gave none, and whether accounting is disabled."""
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since))
    command = ["sacct", "--noheader", "--parsable2", "--allocations", "--duplicates"]
    command += [f"--delimiter={separator}", f"--starttime={start}", f"--format={','.join(_SACCT)}"]
    if all_users:
        command.append("--allusers")
    if names:
        command.append(f"--name={','.join(sorted(set(names)))}")
    reply = commands.call(command, timeout)
    if reply.code == 0:
        return reply.out, False
    # A cluster without slurmdbd says so without asking anybody.
    if _NO_ACCOUNTING in reply.err:
        return None, True
    failure = commands.error(command, reply)
    if isinstance(failure, commands.SlurmUnreachableError):
        return None, False
    raise failure


def parse(raw: RawQueue) -> QueueSnapshot:
    """Read both texts; jobs that are not ours are passed over."""
    return QueueSnapshot(
        queued=tuple(_parse_squeue(raw.squeue, raw.separator, raw.taken)),
        ended=_parse_sacct(raw.sacct or "", raw.separator),
        taken=raw.taken,
        accounting=raw.sacct is not None,
        disabled=raw.disabled,
    )


def read(since: float, names: Iterable[str] = (), *, accounting: bool = True) -> QueueSnapshot:
    """Return the user's own queue now; see :func:`read_raw`."""
    return parse(read_raw(since, names, accounting=accounting))


def _parse_squeue(text: str, separator: str, taken: float) -> Iterator[QueueRecord]:
    for row in _rows(text, separator, _SQUEUE, ended=True):
        # What is odd about a job costs its own row.
        with contextlib.suppress(ValueError):
            record = _record(row, taken)
            if record is not None:
                yield record


def _rows(
    text: str, separator: str, names: Sequence[str], ended: bool = False
) -> Iterator[dict[str, str]]:
    """Yield the fields of each line that has them all; ``ended``: the last one is, too."""
    for line in text.split("\n"):  # not splitlines: comments may hold other line ends
        values = line.split(separator)
        # Another program's comment may hold a line end, too.
        if len(values) == len(names) + ended:
            yield {n: short(value, _LONGEST) for n, value in zip(names, values, strict=False)}


def _record(row: dict[str, str], taken: float) -> QueueRecord | None:
    tag = parse_tag(row["Name"], row["Comment"])
    if tag is None:
        return None
    tasks = row["ArrayTaskID"]
    end = _seconds(row["EndTime"])
    over = row["State"] == "COMPLETING" and end is not None and end < taken + _CLOCKS_DIFFER
    # Of a job that waits it may be a range: 2-4.
    nodes = int(row["NumNodes"].partition("-")[0] or 1)
    has, asked = gpus_counted(row["tres-alloc"]), gpus_asked(row["tres-per-node"]) * nodes
    return QueueRecord(
        job=int(row["ArrayJobID"] if tasks != "N/A" else row["JobID"]),
        tasks=IndexSet.parse(tasks) if tasks != "N/A" else IndexSet.of([0]),
        state=row["State"],
        reason=row["Reason"],
        restarts=int(row["RestartCnt"] or 0),
        # squeue guesses when a waiting job will start.
        start=None if row["State"] in _WAITING else _seconds(row["StartTime"]),
        submitted=_seconds(row["SubmitTime"]) or 0.0,
        gpus=has or asked,
        partition=row["Partition"],
        nodes=row["NodeList"],
        user=row["UserName"],
        tag=tag,
        held=row["PriorityLong"] == "0" and row["Reason"] not in _NOT_HELD,
        ending=over,
        counted=has > 0 or asked == 0,
    )


def _parse_sacct(text: str, separator: str) -> dict[tuple[int, int], Ended]:
    found: dict[tuple[int, int], Ended] = {}
    for row in _rows(text, separator, _SACCT):
        tag = parse_tag(row["JobName"], row["Comment"])
        job, _, task = row["JobID"].partition("_")
        # A row such as 12_[3-9] stands for tasks that have not started: squeue has them.
        if tag is None or not job.isdigit() or (task and not task.isdigit()):
            continue
        key = (int(job), int(task or 0))
        state = row["State"].partition(" ")[0]  # "CANCELLED by 1000"
        # What runs now is counted from squeue.
        elapsed = 0.0 if state == "RUNNING" else _seconds(row["ElapsedRaw"]) or 0.0
        gpu_seconds = elapsed * gpus_counted(row["AllocTRES"])
        earlier = found.get(key)
        if earlier is not None:
            elapsed += earlier.elapsed
            gpu_seconds += earlier.gpu_seconds
        found[key] = Ended(
            job=key[0],
            task=key[1],
            state=state,
            exit_code=row["ExitCode"],
            elapsed=elapsed,
            gpu_seconds=gpu_seconds,
            ended=_seconds(row["End"]),
            nodes=row["NodeList"],
            user=row["User"],
            tag=tag if tag.nonce or earlier is None else earlier.tag,
        )
    return found


def _seconds(text: str) -> float | None:
    return float(text) if text.isdigit() else None


# -- finding an array again ---------------------------------------------------------------------


def find_array(tag: Tag, accounting: bool = True) -> int | None:
    """Return the id of the array with this nonce, None if Slurm shows none (yet).

    Asks squeue, then sacct, where a nonce is found in the comment or, since sacct has that only
    after the job, in the command line that submitted it. Raises SlurmError.
    """
    names, separator = ("ArrayJobID", "JobID", "Comment"), new_separator()
    mine = ["squeue", "--noheader", "--all", "--me", "--states=all"]
    said = commands.ask([*mine, _format(names, separator)])
    for row in _rows(said, separator, names, ended=True):
        if f"nonce={tag.nonce}" in row["Comment"].split():
            return int(row["ArrayJobID"] if row["ArrayJobID"].isdigit() else row["JobID"])
    if not accounting:
        return None
    command = ["sacct", "--noheader", "--parsable2", "--allocations", f"--name={tag.job_name}"]
    for line in commands.ask([*command, "--format=JobID,Comment,SubmitLine"]).splitlines():
        if tag.nonce in line:
            number = line.partition("|")[0].partition("_")[0]
            if number.isdigit():
                return int(number)
    return None


def tasks_of_everybody() -> int:
    """Return how many tasks slurmctld holds now, as far as this user may see them."""
    separator = new_separator()
    listed = commands.ask(["squeue", "--noheader", "--all", _format(["ArrayTaskID"], separator)])
    total = 0
    for line in listed.splitlines():
        text = line.strip().removesuffix(separator)
        try:
            total += 1 if text == "N/A" else len(IndexSet.parse(text))
        except UserError:
            total += 1
    return total
