"""Send packs to Slurm as job arrays, each exactly once. Imports no torch.

Of a submission folder (private, 0700) the tasks read ``array-N.jsonl``; ``array-N.sh`` is
what sbatch was given, ``submission.json`` says which array became which job.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.base.errors import UserError
from benchmark.base.files import make_directory, write_json, write_text
from benchmark.slurm import commands, queue
from benchmark.slurm.arrays import ArrayPlan, PackData, plan_arrays, write_array, write_index
from benchmark.slurm.commands import Limits, SlurmUnreachableError
from benchmark.slurm.profile import Profile, Resources
from benchmark.slurm.script import script_text
from benchmark.slurm.tag import Tag, word

SCHEMA = 1
TASK_MODULE = "benchmark.submission.task"
_SBATCH_SECONDS = 90.0
# After a lost answer: how often and for how long Slurm must say that it does not know the
# array before it is sent again, and how long to wait for Slurm to say anything.
_LOOKS = 3
_SETTLE_SECONDS = 10.0
_PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Request:
    """What to send.

    ``folder`` is created, for this submission alone, with ``files`` (by their place in it);
    ``code`` holds the package that the tasks run. ``resources``: what a task asks for, by pack
    id. ``elsewhere``: the tasks (``1234_5``) of teachers that were sent earlier.
    """

    table: str
    nonce: str
    folder: Path
    packs: Sequence[PackData]
    profile: Profile
    resources: Mapping[str, Resources]
    limits: Limits
    code: Path
    files: Mapping[str, bytes] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    module: str = TASK_MODULE

    @property
    def array_size(self) -> int:
        """The most tasks in one array."""
        return min(self.limits.max_array_size, self.profile.max_array_size or 10**9)

    def plans(self) -> list[ArrayPlan]:
        """The arrays, in the order in which they are sent."""
        return plan_arrays(
            self.packs, self.array_size, self.elsewhere, lambda pack: self.resources[pack["id"]]
        )


@dataclass
class Sent:
    """What was sent: the job of each array, and the tasks by pack id."""

    jobs: list[int] = field(default_factory=list)
    tasks: dict[str, str] = field(default_factory=dict)


def fitting(packs: Sequence[PackData], room: int) -> Sequence[PackData]:
    """Return the first packs that fit into a queue with ``room``; teachers come first anyway.

    Raises UserError where nothing fits.
    """
    if packs and room <= 0:
        raise UserError(
            "the queue is full: as many jobs are waiting as the cluster or the profile's"
            " max-jobs allow; submit again when some have ended"
        )
    return packs[:room]


def dry_run(request: Request) -> str:
    """Return the text of every script; ids of jobs that do not exist yet are named."""
    texts = []
    sent: dict[str, str] = dict(request.elsewhere)
    for number, plan in enumerate(request.plans()):
        texts.append(_script(request, number, plan, sent))
        sent.update({pack["id"]: f"JOB{number}_{i}" for i, pack in enumerate(plan.packs)})
    return "\n".join(texts)


def submit(request: Request) -> Sent:
    """Send every pack. Does not wait for any job.

    Raises SlurmError where Slurm refuses; where nothing was taken, nothing is left behind.
    """
    shared_directory(request.folder.parent)
    request.folder.mkdir(mode=0o700)
    plans = request.plans()
    sent = Sent(tasks=dict(request.elsewhere))
    record = _record(request, plans)
    try:
        for name, content in request.files.items():
            (request.folder / name).parent.mkdir(exist_ok=True)
            (request.folder / name).write_bytes(content)
        for number, plan in enumerate(plans):
            write_array(request.folder / f"array-{number}.jsonl", plan.packs)
            write_index(request.folder, number, plan.packs)
        write_json(request.folder / "submission.json", record)
        for number, plan in enumerate(plans):
            script = request.folder / f"array-{number}.sh"
            write_text(script, _script(request, number, plan, sent.tasks))
            job = send(script, _tag(request, number, plan), request.limits.accounting)
            sent.jobs.append(job)
            sent.tasks.update({pack["id"]: f"{job}_{i}" for i, pack in enumerate(plan.packs)})
            record["arrays"][number]["job"] = job
            write_json(request.folder / "submission.json", record)
    except SlurmUnreachableError:
        raise  # some of it may be queued: the folder has to stay
    except BaseException:
        if not sent.jobs:
            shutil.rmtree(request.folder, ignore_errors=True)
        raise
    return sent


def shared_directory(path: Path) -> None:
    """Create a directory that whoever may write its parent may write too.

    A lab's runs directory is writable by its group while people's umask says otherwise.
    Raises UserError where it cannot be written.
    """
    fresh = not path.exists()
    make_directory(path)
    if fresh:
        path.chmod(path.parent.stat().st_mode & 0o7777)


def send(script: Path, tag: Tag, accounting: bool) -> int:
    """Run sbatch on a script and return the job's id; the array is queued exactly once.

    A busy slurmctld can take a submission and still not answer in time, so after any answer
    that is not a clear refusal the nonce is looked up before anything is sent again.

    Raises SlurmError where Slurm refuses, SlurmUnreachableError where it stays silent.
    """
    command = ["sbatch", "--parsable", str(script)]
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while True:
        reply = commands.call(command, _SBATCH_SECONDS)
        if reply.code == 0:
            return int(reply.out.strip().partition(";")[0])
        failure = commands.error(command, reply)
        if not reply.unreachable and "Zero Bytes" not in reply.err:
            raise failure
        job = _look_for(tag, accounting, give_up)
        if job is not None:
            return job
        if time.monotonic() > give_up:
            raise failure


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


def _tag(request: Request, number: int, plan: ArrayPlan) -> Tag:
    label = str(plan.packs[0]["label"]) if len(plan.packs) == 1 else f"x{len(plan.packs)}"
    return Tag(word(request.table), word(label), f"{request.nonce}-{number}")


def _script(request: Request, number: int, plan: ArrayPlan, tasks: Mapping[str, str]) -> str:
    tag = _tag(request, number, plan)
    return script_text(
        folder=request.folder,
        tag=tag,
        tasks=len(plan.packs),
        command=["-m", request.module, str(request.folder / f"array-{number}.jsonl")],
        profile=request.profile,
        resources=request.resources[plan.packs[0]["id"]],
        code=request.code,
        environment={"BENCH_NONCE": tag.nonce, **request.environment},
        after=tuple(tasks[name] for name in plan.after),
    )


def _record(request: Request, plans: Sequence[ArrayPlan]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "table": request.table,
        "nonce": request.nonce,
        "created": time.time(),
        "cluster": request.limits.cluster,
        "profile": request.profile.name,
        "options": request.profile.model_dump(mode="json", by_alias=True, exclude_none=True),
        "code": str(request.code),
        "environment": dict(request.environment),
        "arrays": [
            {
                "nonce": _tag(request, number, plan).nonce,
                "tasks": len(plan.packs),
                "after": list(plan.after),
                "job": None,
            }
            for number, plan in enumerate(plans)
        ],
    }
