"""Send job arrays to Slurm, each exactly once, in an order in which they can wait for each other.

Imports no torch.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Hashable, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

from benchmark.slurm import commands, queue
from benchmark.slurm.commands import SlurmUnreachableError
from benchmark.slurm.notation import Tag

_SBATCH_SECONDS = 90.0
_JOB = re.compile(r"(\d+);\S+|Submitted batch job (\d+)(?: on cluster \S+)?")
# After a lost answer: how often and for how long Slurm must say that it does not know the
# array before it is sent again, and how long to wait for Slurm to say anything.
_LOOKS = 3
_SETTLE_SECONDS = 10.0
_PATIENCE_SECONDS = 300.0


class Sendable(Protocol):
    """What becomes one task of an array."""

    @property
    def id(self) -> str:
        """Its name among all that is sent."""

    @property
    def depends(self) -> tuple[str, ...]:
        """The names of what must have ended before it starts."""


ItemT = TypeVar("ItemT", bound=Sendable)


class ArrayPlan(NamedTuple, Generic[ItemT]):
    """What one array holds, and the ids of what must have ended before it starts."""

    items: tuple[ItemT, ...]
    after: tuple[str, ...]


def plan_arrays(
    items: Sequence[ItemT],
    size: int,
    elsewhere: Collection[str] = (),
    needs: Callable[[ItemT], Hashable] = lambda item: None,
) -> list[ArrayPlan[ItemT]]:
    """Split items into arrays of at most ``size`` tasks, in an order in which they can be sent.

    Those that wait for nothing come first, teachers and independent students together; then
    one array (or a few, if it is long) for the students of each missing teacher. That is at
    most ceil(items / size) + missing teachers arrays. ``elsewhere``: the ids of what was sent
    earlier and has not ended. ``needs``: what the items of an array must have in common besides.
    """
    known = {item.id for item in items} | set(elsewhere)
    groups: dict[tuple[tuple[str, ...], Hashable], list[ItemT]] = {}
    for item in items:
        after = tuple(sorted(name for name in item.depends if name in known))
        groups.setdefault((after, needs(item)), []).append(item)
    plans: list[ArrayPlan[ItemT]] = []
    sent = set(elsewhere)
    while groups:
        ready = sorted(
            (kind for kind in groups if sent.issuperset(kind[0])), key=lambda kind: bool(kind[0])
        )
        assert ready, "packs wait for each other in a cycle"
        for kind in ready:
            group = groups.pop(kind)
            chunks = [group[start : start + size] for start in range(0, len(group), size)]
            plans += [ArrayPlan(tuple(chunk), kind[0]) for chunk in chunks]
            sent.update(item.id for item in group)
    return plans


def send(script: Path, tag: Tag, accounting: bool) -> int:
    """Run sbatch on a script and return the job's id; the array is queued exactly once.

    A busy slurmctld can take a submission and still not answer in time, so after any answer
    that is not a clear refusal the nonce is looked up before anything is sent again.

    Raises SlurmError if Slurm refuses, SlurmUnreachableError if it stays silent.
    """
    command = ["sbatch", "--parsable", str(script)]
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while True:
        reply = commands.call(command, _SBATCH_SECONDS)
        if reply.code == 0:
            if (job := job_id(reply.out)) is not None:
                return job
            said = " ".join(f"{reply.out} {reply.err}".split()) or "nothing"
            failure: commands.SlurmError = SlurmUnreachableError(
                "sbatch took the jobs and named no number that is surely theirs (it says:"
                f" {said[:200]})"
            )
        else:
            failure = commands.error(command, reply)
            if not reply.unreachable and "Zero Bytes" not in reply.err:
                raise failure
        job = _look_for(tag, accounting, give_up)
        if job is not None:
            return job
        if reply.code == 0 or time.monotonic() > give_up:
            raise failure


def job_id(said: str) -> int | None:
    """Return the job's number in what sbatch printed, wherever it stands; None if none is sure.

    A site's wrapper may print a banner before or after it, with numbers of its own, or leave
    --parsable out. What is spelt as sbatch alone spells it wins over a bare number, and where
    several stand none is believed.
    """
    lines = [line.strip() for line in said.splitlines()]
    spelt = {int(found[1] or found[2]) for line in lines if (found := _JOB.fullmatch(line))}
    told = spelt or {int(line) for line in lines if re.fullmatch(r"[0-9]+", line)}
    return told.pop() if len(told) == 1 else None


def _look_for(tag: Tag, accounting: bool, give_up: float) -> int | None:
    """Look for an array until Slurm has said often enough that it does not know it."""
    first_answer: float | None = None
    looks = 0
    while True:
        try:
            job = queue.find_array(tag, accounting)
        except SlurmUnreachableError:
            if time.monotonic() > give_up:
                raise
        else:
            if job is not None:
                return job
            now = time.monotonic()
            first_answer = first_answer or now
            looks += 1
            if looks >= _LOOKS and now - first_answer >= _SETTLE_SECONDS:
                return None
        time.sleep(_SETTLE_SECONDS / _LOOKS)
