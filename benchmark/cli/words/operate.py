"""What cancel, pause, resume and clean did, in lines."""

from __future__ import annotations

from collections.abc import Iterable

from benchmark.base.words import amount, count
from benchmark.operate.clean import Cleaned
from benchmark.operate.delete import Deleted
from benchmark.operate.stop import Cancelled, Paused, Resumed


def cancelled(done: Cancelled) -> list[str]:
    """Return what was cancelled."""
    if not done.runs and not done.tasks:
        return [*_warned(done.warnings), _nothing(done)]
    tasks = f"{count(done.tasks, 'task')} taken from Slurm"
    told = f"cancelled {count(done.runs, 'run')}" + (f": {tasks}" if done.tasks else "")
    if not done.runs:
        told = f"{tasks}: all of their runs were cancelled before, or have ended"
    lines = [*_warned(done.warnings), told]
    if done.training:
        runs = count(done.training, "run")
        lines.append(f"{runs} in training now: saved and left at the next heartbeat (15 s)")
    return [*lines, "`bench retry --cancelled` takes them up again"]


def paused(done: Paused) -> list[str]:
    """Return what was paused."""
    if not done.submissions:
        return [*_warned(done.warnings), _nothing(done)]
    waiting = f"{count(done.waiting, 'run')} will not start"
    lines = [f"paused {count(done.submissions, 'submission')}: {waiting}"]
    if done.training:
        lines.append(f"{count(done.training, 'run')} in training go on to their end")
    return [*_warned(done.warnings), *lines, "`bench resume` lets them start again"]


def resumed(done: Resumed) -> list[str]:
    """Return what starts again."""
    lines = [*_warned(done.warnings), f"resumed {count(done.submissions, 'submission')}"]
    for why, number in done.released.items():
        lines.append(f"released {count(number, 'task')} that Slurm held: {why}")
    for said in done.refused:
        lines.append(f"warning: Slurm does not release what an operator holds ({said}); ask them")
    if done.held:
        held = count(done.held, "submission")
        lines.append(f"{held} held after failures: `bench retry --failed` lets the rest start")
    return lines


def cleaned(done: Cleaned) -> list[str]:
    """Return what was removed, a line for each kind."""
    verb = "would remove" if done.dry_run else "removed"
    lines = _warned([*done.warnings, *done.problems])
    for kind in dict.fromkeys(item.kind for item in done.removed):
        items = [item for item in done.removed if item.kind == kind]
        noun, _, rest = kind.partition(" ")
        inodes = count(sum(item.inodes for item in items), "inode")
        size = amount(sum(item.size for item in items))
        lines.append(f"{verb} {count(len(items), noun)} {rest}: {size}, {inodes}")
    return lines if done.removed else [*lines, f"nothing to remove in {done.runs_dir}"]


def deleted(done: Deleted) -> list[str]:
    """Return what was deleted, run by run, and why others stay."""
    verb = "would delete" if done.dry_run else "deleted"
    lines = [f"kept {key}: {why}" for key, why in done.kept.items()]
    lines += [f"{verb} {key}" for key in done.keys]
    if done.keys:
        return [*lines, f"{verb} {count(len(done.keys), 'run')}, {amount(done.size)}"]
    return lines or [f"nothing to delete in {done.runs_dir}"]


def _nothing(done: Cancelled | Paused) -> str:
    of = f"of {done.table} " if done.table else ""
    return f"nothing {of}waits or runs in {done.runs_dir}"


def _warned(warnings: Iterable[str]) -> list[str]:
    return [f"warning: {text}" for text in warnings]
