"""From a plan to words, JSON, or a submission: what the commands plan and submit do."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmark.base.errors import UserError, unknown
from benchmark.base.machine import default_cluster, default_device
from benchmark.base.words import count
from benchmark.planning.matrix import Plan
from benchmark.planning.pack_size import Limited, PackSize, no_limits
from benchmark.planning.refuse import check_before_queue, check_files
from benchmark.planning.remaining import Queued, Remaining, plan_packs, remaining
from benchmark.planning.trial import check_trials
from benchmark.run import directory
from benchmark.submission.submission import (
    Executor,
    QueueExecutor,
    new_submission,
)

CLUSTERS = ("slurm", "local", "inline")


class Directories(NamedTuple):
    """Where runs and data lie."""

    runs: Path
    data: Path


def executor_for(cluster: str | None, profile: str | None) -> tuple[Executor, str]:
    """Return the executor and the kind of device that it offers.

    Raises UserError for an unknown cluster or profile.
    """
    name = cluster or default_cluster()
    if name not in CLUSTERS:
        raise unknown("cluster", name, CLUSTERS, "--cluster")
    if profile is not None and name != "slurm":
        raise UserError(f"--profile belongs to --cluster slurm, not to {name}")
    if name == "inline":
        from benchmark.submission.inline import InlineExecutor

        return InlineExecutor(), default_device()
    if name == "local":
        from benchmark.submission.local import LocalExecutor

        return LocalExecutor(), default_device()
    from benchmark.submission.slurm import slurm_executor

    return slurm_executor(profile)


def directories(executor: Executor, runs_dir: Path | None, data_dir: Path | None) -> Directories:
    """Return where runs and data lie: as the user said, else as the profile, else as usual."""
    theirs = executor if isinstance(executor, QueueExecutor) else None
    return Directories(
        runs_dir or (theirs and theirs.runs_dir) or directory.runs_dir(),
        data_dir or (theirs and theirs.data_dir) or directory.data_dir(),
    )


def submit_plan(
    plan: Plan,
    executor: Executor,
    *,
    runs_dir: Path,
    data_dir: Path,
    pack_size: PackSize,
    plugins: Sequence[Path] = (),
    reader: str | None = None,
    dry_run: bool = False,
    wait: bool = False,
) -> int:
    """Submit what is missing of a plan; return the exit code.

    Raises UserError before anything is queued where something would fail later.
    """
    from benchmark.submission.sent import busy_keys

    queueing = executor if isinstance(executor, QueueExecutor) else None
    # The queue before the files: a run that ends in between is seen at least once.
    queued = queueing.in_flight(runs_dir) if queueing else {}
    check_before_queue(plan, data_dir, runs_dir, reader)
    left = remaining(plan, runs_dir, queued=queued, busy=busy_keys(runs_dir))
    lines = list(_standing(plan, left, queued, runs_dir))
    theirs = {run.key: queued[run.key] for run in left.queued}
    waits = wait and not dry_run
    # Whoever waits for the runs wants to know that some are not there when this returns.
    others = left.held or left.waiting or left.cancelled
    out = left.damaged or left.untaught
    elsewhere = 1 if (waits and others) or (out and not dry_run) else 0
    if not left.runs:
        if not left.queued and (why := next(_left_out(left, runs_dir), None)):
            raise UserError(why)
        _say(*lines)
        code = queueing.wait_for(theirs, runs_dir) if queueing and theirs and waits else 0
        return max(code, elsewhere)
    check_files(left.runs, runs_dir)
    check_trials(left.runs, data_dir, plugins)
    limits = executor.limits if isinstance(executor, Limited) else no_limits
    packs = plan_packs(plan, left.runs, pack_size.sizer(runs_dir, limits), theirs)
    paths = [path.resolve() for path in plugins]
    submission = new_submission(plan.table.name, packs, runs_dir, data_dir, paths, reader, theirs)
    # Nothing is said before all that can be refused has been looked at.
    _say(*lines, *executor.announce(submission))
    if not dry_run:
        return max(executor.start(submission, wait), elsewhere)
    if queueing:
        print(queueing.rehearse(submission))
    return 0


def _left_out(left: Remaining, runs_dir: Path) -> Iterator[str]:
    """Yield what is wrong with runs that cannot be trained as they are, and what to do."""
    for run in left.damaged:
        yield f"{left.readings[run.key].reason}; move {runs_dir / run.key} away to train it anew"
    if left.untaught:
        teachers = {run.teacher.key for run in left.untaught if run.teacher}
        told = ", ".join(f"{key} is {left.readings[key].state}" for key in sorted(teachers)[:4])
        yield f"{count(len(left.untaught), 'run')}, since their teacher cannot teach: {told}"


def _standing(
    plan: Plan, left: Remaining, queued: Mapping[str, Queued], runs_dir: Path
) -> Iterator[str]:
    """Yield how a plan's runs stand before anything is submitted."""
    done, planned = len(left.done), count(len(plan.runs), "run")
    yield f"{plan.table.name}: {done} of {planned} done, {len(left.runs)} to train"
    if left.queued:
        states = Counter(queued[run.key].state for run in left.queued)
        told = ", ".join(f"{number} {state}" for state, number in states.most_common(4))
        yield f"queued already: {told}"
    if left.held:
        held = count(len(left.held), "run")
        yield f"left to another process, which trains now or next: {held}"
    if left.waiting:
        waiting = count(len(left.waiting), "run")
        yield f"left until another process has trained their teacher: {waiting}; submit again then"
    yield from (f"left out: {why}" for why in _left_out(left, runs_dir))
    if left.cancelled:
        cancelled = count(len(left.cancelled), "run")
        yield f"cancelled: {cancelled}; `bench retry --cancelled` takes them up"


def describe_simulation(
    plan: Plan,
    runs_dir: Path,
    pack_size: PackSize,
    profile: str,
    slots: int | None,
    preemptions_per_hour: float,
    start_seconds: float,
) -> str:
    """Return when everything that is left of a plan would be done with a profile's resources."""
    from benchmark.slurm.profile import load_profile
    from benchmark.submission.simulation import simulate_packs, task_limits

    chosen = load_profile(profile)
    sizer = pack_size.sizer(runs_dir, partial(task_limits, chosen))
    packs = plan_packs(plan, remaining(plan, runs_dir).runs, sizer)
    lines = simulate_packs(packs, chosen, runs_dir, slots, preemptions_per_hour, start_seconds)
    return "\n".join([f"{plan.table.name}: {count(len(plan.runs), 'run')}", *lines])


def _say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr)
