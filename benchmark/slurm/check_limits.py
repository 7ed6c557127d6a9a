"""Refuse jobs that sbatch accepts, and that limits then let wait for ever.

Only what is certain is refused: whatever Slurm may yet run is sent. Imports no torch.
"""

from __future__ import annotations

from functools import cache

from benchmark.base.errors import UserError, first_line
from benchmark.base.words import count
from benchmark.slurm import commands
from benchmark.slurm.limits import (
    Affiliation,
    JobLimit,
    job_limits,
    number_of,
    qos_limits,
    read_affiliation,
)
from benchmark.slurm.notation import gpu_type, minutes
from benchmark.slurm.partitions import Partition, chosen_partitions
from benchmark.slurm.profile import Profile, Resources

_KINDS = {
    "tres": "a job",
    "node": "a job on a node",
    "together": "all its jobs together",
    "tres_minutes": "a job times its minutes",
}


def check_limits(profile: Profile, resources: Resources, cluster: str = "") -> str | None:
    """Refuse what asks for more, or less, than one job of this user's may on ``cluster``.

    Of several partitions one that takes the job is enough. Asks sacctmgr once for each account
    above the user's, and a few times besides. Returns a note where few jobs may run at once, where
    the partitions are down, and if slurmdbd does not answer. Raises UserError that names the limit.
    """
    try:
        affiliation = read_affiliation(profile, cluster)
        if affiliation is None:
            return None
        partitions = chosen_partitions(profile.partition)
        of_qos = cache(qos_limits)  # which partitions share
        ways = {p: job_limits(p, affiliation, of_qos) for p in partitions or [Partition("")]}
    except commands.SlurmError as error:
        return f"no limits of accounts and QOS were looked at: {first_line(error)}"
    taking: list[Partition] = []
    refusals: list[UserError] = []
    for partition, limits in ways.items():
        try:
            check_doors(profile, partition, affiliation)
            check_job(profile, resources, limits)
        except UserError as error:
            refusals.append(error)
        else:
            taking.append(partition)
    if not taking:
        raise refusals[0]
    return "; ".join(filter(None, (_fewest(ways[taking[0]]), _down(taking)))) or None


def _fewest(limits: list[JobLimit]) -> str | None:
    fewest = min((limit.jobs for limit in limits if limit.jobs), default=None)
    if fewest is None:
        return None
    whose = next(limit.whose for limit in limits if limit.jobs == fewest)
    return f"{whose} runs at most {count(fewest, 'job')} at a time; others wait for their turn"


def _down(partitions: list[Partition]) -> str | None:
    if any(partition.state != "DOWN" for partition in partitions):
        return None
    names = ",".join(partition.name for partition in partitions)
    return f"partition {names} is down: what is sent waits until its operators start it again"


def check_doors(profile: Profile, partition: Partition, affiliation: Affiliation) -> None:
    """Refuse a partition whose lists exclude the job's account or QOS. Pure."""
    excluded = partition.excludes(affiliation.accounts, affiliation.qos)
    if excluded is not None:
        raise UserError(
            f"profile {profile.name}: partition {partition.name} excludes {excluded}, so a job"
            " would be refused or wait for ever; take another partition, account or QOS"
        )


def check_job(profile: Profile, resources: Resources, limits: list[JobLimit]) -> None:
    """Refuse a job by limits of which an earlier one, where it says something, stands. Pure.

    What jobs may have together is limited by every account of the chain.
    """
    where = f"profile {profile.name}"
    closed = next((limit for limit in limits if limit.jobs == 0), None)
    if closed is not None:
        raise UserError(
            f"{where}: {closed.whose} may run no jobs (its GrpJobs or MaxJobs is 0), so one would"
            " wait for ever; take another account or QOS, or ask its coordinator"
        )
    wall = next((limit for limit in limits if limit.minutes is not None), None)
    if wall is not None and wall.minutes is not None and minutes(profile.time) > wall.minutes:
        raise UserError(
            f"{where}: time {profile.time} is more than {wall.whose} allows a job"
            f" ({wall.minutes:.0f} minutes), so it would wait for ever; runs cross any number of"
            " time limits, so a shorter one is fine"
        )
    everywhere, node = _wanted(resources), _wanted(resources._replace(nodes=1))
    for name, (key, amount) in everywhere.items():
        if amount == float("inf"):
            continue
        for kind, whom in _KINDS.items():
            stands = [limit for limit in limits if name in getattr(limit, kind)]
            asked = node[name][1] if kind == "node" else amount
            if kind == "tres_minutes":
                asked *= minutes(profile.time)
            for limit in stands if kind == "together" else stands[:1]:
                most = getattr(limit, kind)[name]
                if asked > number_of(most):
                    raise UserError(
                        f"{where}: {key} asks for more than {limit.whose} allows {whom}"
                        f" ({name}={most}), so it would wait for ever"
                    )
        # Of CPUs a job may be given more than it asks for: whole cores, or a whole node.
        least = next((limit for limit in limits if name in limit.least), None)
        if least is not None and name != "cpu" and amount < number_of(least.least[name]):
            raise UserError(
                f"{where}: {key} asks for less than {least.whose} wants of a job"
                f" ({name}={least.least[name]}), so it would wait for ever"
            )


def _wanted(resources: Resources) -> dict[str, tuple[str, float]]:
    """Return what a job asks for, by the names of sacctmgr, with the key of the profile."""
    gpus = resources.all_gpus
    wanted = {
        "cpu": ("cpus-per-task", float(resources.cpus * resources.processes)),
        "gres/gpu": ("gpus", float(gpus)),
        "mem": (
            "mem" if resources.mem_per_cpu is None else "mem-per-cpu",
            resources.megabytes * resources.nodes,
        ),
        "node": ("nodes", float(resources.nodes)),
    }
    kind = gpu_type(resources.gpus)
    if kind is not None:
        wanted[f"gres/gpu:{kind}"] = ("gpus", float(gpus))
    return wanted
