"""`bench plan --simulate`: when a table would be done with a profile's resources.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.words import count
from benchmark.planning.device_estimate import estimate
from benchmark.planning.estimate import read_history
from benchmark.planning.matrix import Plan
from benchmark.planning.pack_size import Limits, PackSize
from benchmark.planning.packs import Pack
from benchmark.planning.remaining import plan_packs, remaining
from benchmark.planning.simulate import START_SECONDS, Machine, SimulatedPack, simulate
from benchmark.run.identity import Run
from benchmark.slurm.notation import gpu_count, minutes
from benchmark.slurm.profile import Profile, Resources, load_profile


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
    chosen = load_profile(profile)
    sizer = pack_size.sizer(runs_dir, partial(task_limits, chosen))
    packs = plan_packs(plan, remaining(plan, runs_dir).runs, sizer)
    lines = simulate_packs(packs, chosen, runs_dir, slots, preemptions_per_hour, start_seconds)
    return "\n".join([f"{plan.table.name}: {count(len(plan.runs), 'run')}", *lines])


def simulate_packs(
    packs: Sequence[Pack],
    profile: Profile,
    runs_dir: Path,
    slots: int | None = None,
    preemptions_per_hour: float = 0.0,
    start_seconds: float = START_SECONDS,
) -> list[str]:
    """Return the predicted makespan and what is used, as lines for people.

    ``slots``: tasks that run at a time, the profile's array-parallelism if it is None; the
    rate of preemptions is that of one running task; ``start_seconds``: what every start of a task
    costs before it trains. Raises UserError if neither says how many run at a time, and where
    a task would get nothing done.
    """
    at_a_time = slots or profile.array_parallelism
    if at_a_time is None:
        raise UserError(
            f"profile {profile.name} has no array-parallelism; say how many tasks run at a time"
            " with --slots N"
        )
    history = read_history(runs_dir)
    tasks = [SimulatedPack(pack.id, history.cost(pack.runs).hours, pack.depends) for pack in packs]
    limit = minutes(profile.time) / 60
    machine = Machine(at_a_time, limit, preemptions_per_hour, start_seconds / 3600)
    try:
        found = simulate(tasks, machine)
    except ValueError as error:
        raise UserError(f"profile {profile.name}: {error}") from error
    resources = {pack.id: _resources(pack.runs[0], profile) for pack in packs}
    kinds = {gpu_count(need.gpus) > 0 for need in resources.values()}
    what = "GPU" if True in kinds else "CPU"
    each = max(gpu_count(n.gpus) if what == "GPU" else n.cpus for n in resources.values())
    used = _amount(found.slot_hours * each)
    return [
        f"with profile {profile.name}: {len(tasks)} packs, {at_a_time} at a time, time limit"
        f" {profile.time}, {preemptions_per_hour:g} preemptions an hour",
        f"done after {_spell(found.makespan_hours)}, {used} {what}-hours,"
        f" {found.starts} starts of {machine.start_hours * 3600:.0f} s each",
        estimate(packs, resources, runs_dir).words(),
    ]


def _amount(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"


def _spell(hours: float) -> str:
    return f"{hours:.2f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"


def task_limits(profile: Profile, run: Run) -> Limits:
    """Return the time limit and the memory of a task that trains such runs."""
    return Limits(minutes(profile.time) / 60, _resources(run, profile).megabytes)


def _resources(run: Run, profile: Profile) -> Resources:
    recipe = run.recipe
    return profile.resources(recipe.threads, recipe.device == "cuda", recipe.replicas)
