"""A submission as job arrays of Slurm: what is written, what sbatch is given, what was taken.

Imports no torch.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.base.errors import UserError
from benchmark.base.files import write_json, write_text
from benchmark.base.words import count
from benchmark.run.pack_file import PackFile
from benchmark.slurm.commands import ClusterLimits, SlurmError, SlurmUnreachableError
from benchmark.slurm.notation import Tag, task_name, word
from benchmark.slurm.profile import Profile, Resources
from benchmark.slurm.script import script_text
from benchmark.slurm.send import ArrayPlan, plan_arrays, send
from benchmark.submission import own_copy
from benchmark.submission.folder import SCHEMA, Folder
from benchmark.submission.snapshot import CodeCopy

TASK = ("-m", "benchmark.cli.job", "task")
_Plan = ArrayPlan[PackFile]
_ENDING = "ending"  # what packs depend on whose runs belong to tasks that Slurm is ending
_MOST_ENDED = 5000  # a variable of the environment holds 128 kB at most


@dataclass(frozen=True)
class Arrays:
    """Packs as they go to Slurm.

    ``folder`` is made for them alone, with copies of the ``plugins``; ``code`` holds the package
    ``folder`` is made for them alone, with copies of the ``plugins``; ``code`` holds the package
    that each task takes a copy of its own from. ``resources``: what a task asks for, by pack id.
    ``elsewhere``: the tasks (``1234_5``) of teachers that were sent earlier, by pack id.
    ``ended``, ``ending``: as the queue tells them
    (:class:`~benchmark.submission.submission.Queue`).
    """

    table: str
    nonce: str
    folder: Folder
    packs: tuple[PackFile, ...]
    profile: Profile
    resources: Mapping[str, Resources]
    limits: ClusterLimits
    code: CodeCopy | None = None
    plugins: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    ended: Mapping[str, str] = field(default_factory=dict)
    ending: frozenset[str] = frozenset()
    command: tuple[str, ...] = TASK

    def plans(self) -> list[_Plan]:
        """The arrays, in the order in which they are sent."""
        size = max(1, min(self.limits.max_array_size, self.profile.max_array_size or 10**9))
        packs = [self._behind(pack) for pack in self.packs]
        return plan_arrays(packs, size, self._sent(), lambda pack: self.resources[pack.id])

    def _behind(self, pack: PackFile) -> PackFile:
        """Let a pack wait for the end of the tasks that had its runs, if they are only ending."""
        if not self.ending.isdisjoint(self._left(pack)):
            return pack.model_copy(update={"depends": (*pack.depends, _ENDING)})
        return pack

    def _left(self, pack: PackFile) -> set[str]:
        """Return the tasks that had the runs of a pack, and are over."""
        return {self.ended[key] for key in pack.keys if key in self.ended}

    def _sent(self) -> dict[str, str]:
        """Return what was sent earlier and can be waited for, by the name that packs depend on."""
        mine = {task for pack in self.packs for task in self._left(pack)} & self.ending
        return {**self.elsewhere, _ENDING: ":".join(sorted(mine))} if mine else {**self.elsewhere}

    def scripts(self) -> str:
        """Return the text of every script; ids of jobs that do not exist yet are named."""
        texts = []
        tasks = self._sent()
        for number, plan in enumerate(self.plans()):
            texts.append(self._script(number, plan, tasks))
            tasks.update({pack.id: f"JOB{number}_{i}" for i, pack in enumerate(plan.items)})
        return "\n".join(texts)

    def send(self) -> list[int]:
        """Send every array and return their jobs. Does not wait for any of them.

        Raises SlurmError if Slurm refuses; if nothing was taken, nothing is left behind.
        """
        plans = self.plans()
        jobs: list[int] = []
        tasks = self._sent()
        record = self._record(plans)
        self.folder.create()
        try:
            self._write(plans, record)
            for number, plan in enumerate(plans):
                script = self.folder.script(number)
                write_text(script, self._script(number, plan, tasks))
                job = send(script, self._tag(number, plan), self.limits.accounting)
                jobs.append(job)
                names = [task_name(job, i, self.limits.arrays) for i in range(len(plan.items))]
                tasks.update((pack.id, n) for pack, n in zip(plan.items, names, strict=True))
                record["arrays"][number]["job"] = job
                write_json(self.folder.record, record)
        except SlurmUnreachableError as error:
            # Some of it may be queued: the folder has to stay.
            raise SlurmUnreachableError(f"{error}; {_sent_so_far(jobs, plans)}") from error
        except SlurmError as error:
            if jobs:
                raise SlurmError(f"{error}; {_sent_so_far(jobs, plans)}") from error
            shutil.rmtree(self.folder.path, ignore_errors=True)
            raise
        except BaseException:
            if not jobs:
                shutil.rmtree(self.folder.path, ignore_errors=True)
            raise
        return jobs

    def _write(self, plans: Sequence[_Plan], record: dict[str, Any]) -> None:
        for path in self.plugins:
            self.folder.plugin(path).parent.mkdir(exist_ok=True)
            self.folder.plugin(path).write_bytes(path.read_bytes())
        for number, plan in enumerate(plans):
            self.folder.write(number, plan.items)
        write_json(self.folder.record, record)

    def _tag(self, number: int, plan: _Plan) -> Tag:
        label = plan.items[0].label if len(plan.items) == 1 else f"x{len(plan.items)}"
        return Tag(word(self.table), word(label), f"{self.nonce}-{number}")

    def _script(self, number: int, plan: _Plan, tasks: Mapping[str, str]) -> str:
        tag = self._tag(number, plan)
        assert self.code is not None, "tasks run a copy of the code"
        first = own_copy.words(self.code.path, self.code.digest)
        left = sorted({task for pack in plan.items for task in self._left(pack)})
        ended = {"BENCH_ENDED": ",".join(left)} if 0 < len(left) <= _MOST_ENDED else {}
        return script_text(
            folder=self.folder.path,
            tag=tag,
            tasks=len(plan.items) if self.limits.arrays else None,
            command=[*first, *self.command, str(self.folder.path), str(number)],
            profile=self.profile,
            resources=self.resources[plan.items[0].id],
            code=self.code.path,
            environment={"BENCH_NONCE": tag.nonce, **ended, **self.environment},
            after=tuple(tasks[name] for name in plan.after),
        )

    def _record(self, plans: Sequence[_Plan]) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "table": self.table,
            "executor": "slurm",
            "nonce": self.nonce,
            "created": time.time(),
            "cluster": self.limits.cluster,
            "profile": self.profile.name,
            "options": self.profile.model_dump(mode="json", by_alias=True, exclude_none=True),
            "code": str(self.code.path) if self.code else None,
            "environment": dict(self.environment),
            "arrays": [
                {
                    "nonce": self._tag(number, plan).nonce,
                    "tasks": len(plan.items),
                    "after": list(plan.after),
                    "gpus": self.resources[plan.items[0].id].all_gpus,
                    "job": None,
                    **({} if self.limits.arrays else {"single": True}),
                }
                for number, plan in enumerate(plans)
            ],
        }


def _sent_so_far(jobs: Sequence[int], plans: Sequence[_Plan]) -> str:
    """Say what was sent of a submission that Slurm stopped half-way."""
    tasks = sum(len(plan.items) for plan in plans[: len(jobs)])
    total = sum(len(plan.items) for plan in plans)
    named = f" as job{'s' * (len(jobs) != 1)} {', '.join(map(str, jobs))}" if jobs else ""
    return f"{tasks:,} of {count(total, 'task')} sent{named}; submit again for the rest"


def fitting(packs: Sequence[PackFile], room: int) -> tuple[PackFile, ...]:
    """Return the first packs that fit into a queue with ``room``; teachers come first anyway.

    Raises UserError if nothing fits.
    """
    if packs and room <= 0:
        raise UserError(
            "the queue is full: as many jobs are waiting as the cluster or the profile's"
            " max-jobs allow; submit again when some have ended"
        )
    return tuple(packs[:room])
