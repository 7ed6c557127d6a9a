"""From a plan to words, JSON, or a submission: what the commands plan and submit do."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.base.errors import UserError, unknown
from benchmark.base.machine import default_cluster, default_device
from benchmark.base.words import count
from benchmark.planning.matrix import Context, Plan, Slot, make_plan
from benchmark.planning.pack_size import Limited, PackSize, no_limits
from benchmark.planning.packs import Pack
from benchmark.planning.refuse import check_before_queue, check_files
from benchmark.run import directory
from benchmark.run.directory import RunDir
from benchmark.submission.submission import (
    Executor,
    Queued,
    QueueExecutor,
    Remaining,
    new_submission,
    plan_packs,
    remaining,
)
from benchmark.table.load import load_table, table_files
from benchmark.table.selection import Selection

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
    lines = list(_standing(plan, left, queued))
    theirs = {run.key: queued[run.key] for run in left.queued}
    waits = wait and not dry_run
    # Whoever waits for the runs wants to know that some are not there when this returns.
    elsewhere = 1 if waits and (left.held or left.waiting or left.cancelled) else 0
    if not left.runs:
        _say(*lines)
        code = queueing.wait_for(theirs, runs_dir) if queueing and theirs and waits else 0
        return max(code, elsewhere)
    check_files(left.runs, runs_dir)
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


def _standing(plan: Plan, left: Remaining, queued: Mapping[str, Queued]) -> Iterator[str]:
    """Yield how a plan's runs stand before anything is submitted."""
    done, runs = len(left.done), count(len(plan.runs), "run")
    yield f"{plan.table.name}: {done} of {runs} done, {len(left.runs)} to train"
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
    if left.cancelled:
        cancelled = count(len(left.cancelled), "run")
        yield f"cancelled: {cancelled}; `bench retry --cancelled` takes them up"


def describe_plan(plan: Plan, runs_dir: Path, pack_size: PackSize) -> str:
    """Return a plan for people: what it holds and what is left to train."""
    table = plan.table
    states = Counter(RunDir(runs_dir, run.key).state() for run in plan.runs)
    left = remaining(plan, runs_dir)
    packs = plan_packs(plan, left.runs, pack_size.sizer(runs_dir))
    cells = {v.cell_key for slot in plan.slots for v in slot.variants}
    seeds = ", ".join(str(seed) for seed in plan.seeds)
    lines = [
        f"{table.name}: {table.title or table.source.paper}",
        f"  dataset {table.dataset}, recipe {table.recipe}, protocol {table.protocol.report}",
        f"  {count(len(plan.slots), 'slot')}, {count(len(cells), 'cell')}, seeds {seeds}:"
        f" {count(len(plan.runs), 'run')}, of which {count(len(plan.teachers), 'teacher')}",
        f"  runs in {runs_dir}: "
        + ", ".join(f"{number} {state}" for state, number in sorted(states.items())),
        f"  to train: {count(len(left.runs), 'run')} in {count(len(packs), 'pack')} of {pack_size}",
    ]
    for pack in packs[:20]:
        after = f" after {', '.join(pack.depends)}" if pack.depends else ""
        lines.append(f"    {pack.id}  {pack.label}{after}")
    if len(packs) > 20:
        lines.append(f"    and {len(packs) - 20} more")
    return "\n".join(lines)


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


def plan_to_json(plan: Plan, runs_dir: Path, pack_size: PackSize) -> dict[str, Any]:
    """Return a plan as JSON values: one entry a slot and metric, and the packs left to train."""
    table = plan.table
    packs = plan_packs(plan, remaining(plan, runs_dir).runs, pack_size.sizer(runs_dir))
    return {
        "schema": 1,
        "table": table.name,
        "dataset": table.dataset,
        "recipe": table.recipe,
        "seeds": list(plan.seeds),
        "cells": [entry for slot in plan.slots for entry in _slot_entries(plan, slot)],
        "packs": [_pack_entry(pack) for pack in packs],
    }


def _slot_entries(plan: Plan, slot: Slot) -> list[dict[str, Any]]:
    entries = []
    for metric in plan.table.metrics:
        published = plan.table.published_value(slot.row.name, slot.column.name, metric)
        entries.append(
            {
                "row": slot.row.name,
                "column": slot.column.name,
                "teacher": slot.teacher,
                "student": slot.student,
                "methods": [use.name for use in slot.row.methods],
                "metric": metric,
                "published": published.value if published else None,
                "protocol": plan.table.protocol.report,
                "key": slot.variants[0].cell_key if slot.variants else None,
                "keys": [variant.cell_key for variant in slot.variants],
            }
        )
    return entries


def _pack_entry(pack: Pack) -> dict[str, Any]:
    return {
        "id": pack.id,
        "label": pack.label,
        "runs": [run.key for run in pack.runs],
        "depends": list(pack.depends),
    }


def check_tables(name: str | None, context: Context) -> Iterator[str]:
    """Expand one table, or all of them; yield a line each. Raises UserError for a wrong one."""
    for each in [name] if name is not None else sorted(table_files()):
        table = load_table(each)
        plan = make_plan(table, Selection(), context)
        slots, runs = count(len(plan.slots), "slot"), count(len(plan.runs), "run")
        yield f"{table.name}: {slots}, {runs}, ok"


def tables_overview() -> str:
    """Return the known tables, a line each; a broken file says so in its line."""
    lines = []
    for name, path in sorted(table_files().items()):
        try:
            table = load_table(str(path))
        except UserError as error:
            lines.append(f"{name:26} broken: {error}")
            continue
        size = f"{count(len(table.rows), 'row')} x {count(len(table.columns), 'column')}"
        note = "" if table.trainable else ", shown only"
        lines.append(f"{name:26} {table.dataset:10} {size:24} {table.source.paper}{note}")
    return "\n".join(lines)


def _say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr)
