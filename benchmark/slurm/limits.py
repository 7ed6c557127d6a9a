"""Limits of accounts and QOS that sbatch accepts a job over, and that then let it wait for ever.

They are known to slurmdbd alone; if it says nothing, nothing is refused. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from benchmark.base.errors import UserError
from benchmark.base.trust import own_name
from benchmark.slurm import commands
from benchmark.slurm.notation import gpu_count, megabytes, minutes
from benchmark.slurm.profile import Profile, Resources


class JobLimit(NamedTuple):
    """The most that one job may ask for; what is not limited is None or left out.

    ``together``: what many jobs may have between them, so that a job of more waits for ever too.
    """

    whose: str  # "account lab", "QOS normal"
    minutes: float | None
    tres: Mapping[str, str]  # cpu=8, gres/gpu=2, mem=64G
    together: Mapping[str, str] = {}


def check_limits(profile: Profile, resources: Resources) -> None:
    """Refuse what asks for more than one job of this user's may have.

    Asks sacctmgr twice. Raises UserError that names the limit.
    """
    try:
        limits = read_job_limits(profile)
    except commands.SlurmError:
        return
    check_job(profile, resources, limits)


def check_job(profile: Profile, resources: Resources, limits: list[JobLimit]) -> None:
    """Refuse a job by limits of which an earlier one, where it says something, stands. Pure."""
    where = f"profile {profile.name}"
    wall = next((limit for limit in limits if limit.minutes is not None), None)
    if wall is not None and wall.minutes is not None and minutes(profile.time) > wall.minutes:
        raise UserError(
            f"{where}: time {profile.time} is more than {wall.whose} allows a job"
            f" ({wall.minutes:.0f} minutes), so it would wait for ever; runs cross any number of"
            " time limits, so a shorter one is fine"
        )
    wanted = {
        "cpu": ("cpus-per-task", resources.cpus),
        "gres/gpu": ("gpus", gpu_count(resources.gpus)),
        "mem": ("mem" if resources.mem_per_cpu is None else "mem-per-cpu", resources.megabytes),
    }
    for name, (key, amount) in wanted.items():
        if amount == float("inf"):
            continue
        for kind, whom in (("tres", "a job"), ("together", "all its jobs together")):
            stands = [limit for limit in limits if name in getattr(limit, kind)]
            most = getattr(stands[0], kind)[name] if stands else None
            # A number of CPUs or GPUs is an amount without a unit.
            if most is not None and amount > megabytes(most):
                raise UserError(
                    f"{where}: {key} asks for more than {stands[0].whose} allows {whom}"
                    f" ({name}={most}), so it would wait for ever"
                )


def read_job_limits(profile: Profile) -> list[JobLimit]:
    """Return the limits of the QOS that jobs of a profile have, then of its account.

    Raises SlurmError if slurmdbd does not answer.
    """
    fields = "format=Account,Partition,DefaultQOS,MaxWall,MaxTRES,GrpTRES"
    command = ["sacctmgr", "--noheader", "--parsable2", "show"]
    text = commands.ask([*command, "assoc", f"user={own_name()}", fields], patience=0)
    rows = [line.split("|") for line in text.splitlines() if line.count("|") == 5]
    accounts = {row[0] for row in rows}
    account = profile.account or (accounts.pop() if len(accounts) == 1 else None)
    if account is None:
        user = ["user", own_name(), "format=DefaultAccount"]
        account = commands.ask([*command, *user], patience=0).strip()
    mine = [row for row in rows if row[0] == account and row[1] in ("", profile.partition)]
    if not mine:
        return []
    row = max(mine, key=lambda row: bool(row[1]))
    found = [_limit(f"account {account}", *row[3:])]
    qos = profile.qos or row[2]
    if qos:
        words = ["qos", qos, "format=Name,MaxWall,MaxTRES,GrpTRES,MaxTRESPU,MaxTRESPA"]
        for line in commands.ask([*command, *words], patience=0).splitlines():
            if line.count("|") == 5:
                name, *limits = line.split("|")
                found.insert(0, _limit(f"QOS {name}", *limits))
    return found


def _limit(whose: str, wall: str, tres: str, *together: str) -> JobLimit:
    try:
        longest = minutes(wall) if wall else None
    except ValueError:
        longest = None
    least: dict[str, str] = {}
    for text in together:
        for name, most in _amounts(text).items():
            least[name] = min(most, least.get(name, most), key=megabytes)
    return JobLimit(whose, longest, _amounts(tres), least)


def _amounts(tres: str) -> dict[str, str]:
    """Read ``cpu=8,gres/gpu=2,mem=64G``; what is no amount of those is passed over."""
    found = dict(item.split("=", 1) for item in tres.split(",") if "=" in item)
    return {n: most for n, most in found.items() if re.fullmatch(r"\d+[KMGT]?", most)}
