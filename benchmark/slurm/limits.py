"""Limits of accounts and QOS that sbatch accepts a job over, and that then let it wait for ever.

They are known to slurmdbd alone; if it says nothing, nothing is refused. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from benchmark.base.errors import UserError
from benchmark.base.trust import own_name
from benchmark.base.words import count
from benchmark.slurm import commands
from benchmark.slurm.notation import gpu_type, megabytes, minutes
from benchmark.slurm.profile import Profile, Resources


class JobLimit(NamedTuple):
    """The most that one job may ask for; what is not limited is None or left out.

    ``tres_minutes``: of its time as well. ``together``: what many jobs may have between them, so
    that a job of more waits for ever too; ``jobs``: how many may run at once.
    """

    whose: str  # "account lab", "QOS normal"
    minutes: float | None = None
    tres: Mapping[str, str] = {}  # cpu=8, gres/gpu=2, mem=64G
    together: Mapping[str, str] = {}
    tres_minutes: Mapping[str, str] = {}
    jobs: int | None = None


# An account lies in another at most so deep.
_DEEPEST = 16


def check_limits(profile: Profile, resources: Resources) -> str | None:
    """Refuse what asks for more than one job of this user's may have.

    Asks sacctmgr once for each account above the user's, and a few times besides. Returns a note
    where few jobs may run at once. Raises UserError that names the limit.
    """
    try:
        limits = read_job_limits(profile)
    except commands.SlurmError:
        return None
    check_job(profile, resources, limits)
    fewest = min((limit.jobs for limit in limits if limit.jobs), default=None)
    if fewest is None:
        return None
    whose = next(limit.whose for limit in limits if limit.jobs == fewest)
    return f"{whose} runs at most {count(fewest, 'job')} at a time; others wait for their turn"


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
    for name, (key, amount) in _wanted(resources).items():
        if amount == float("inf"):
            continue
        for kind, whom in _KINDS.items():
            stands = [limit for limit in limits if name in getattr(limit, kind)]
            asked = amount * minutes(profile.time) if kind == "tres_minutes" else amount
            for limit in stands if kind == "together" else stands[:1]:
                most = getattr(limit, kind)[name]
                if asked > _number(most):
                    raise UserError(
                        f"{where}: {key} asks for more than {limit.whose} allows {whom}"
                        f" ({name}={most}), so it would wait for ever"
                    )


_KINDS = {
    "tres": "a job",
    "together": "all its jobs together",
    "tres_minutes": "a job times its minutes",
}


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


def read_job_limits(profile: Profile) -> list[JobLimit]:
    """Return the limits of the partition's QOS, of the QOS that jobs have, then of their account.

    Slurm gives an account's limits of one job to its users; what jobs may have together stands at
    each account above theirs, so these follow, where no QOS says the same. Raises SlurmError if
    slurmdbd does not answer.
    """
    fields = f"format=Account,Partition,DefaultQOS,ParentName,Cluster,{_ACCOUNTS}"
    text = commands.ask([*_SHOW, "assoc", f"user={own_name()}", fields], patience=0)
    rows = [line.split("|") for line in text.splitlines() if line.count("|") == 10]
    accounts = {row[0] for row in rows}
    account = profile.account or (accounts.pop() if len(accounts) == 1 else None)
    if account is None:
        user = ["user", own_name(), "format=DefaultAccount"]
        account = commands.ask([*_SHOW, *user], patience=0).strip()
    mine = [row for row in rows if row[0] == account and row[1] in ("", profile.partition)]
    if not mine:
        return []
    row = max(mine, key=lambda row: bool(row[1]))
    found = []
    for qos in dict.fromkeys(filter(None, (_qos_of(profile.partition), profile.qos or row[2]))):
        found += _of_qos(qos)
    chain = [_limit(f"account {account}", *row[5:8], times=row[8], jobs=row[9:])]
    chain += _above(account, row[4])
    stated = {name for limit in found for name in limit.together}
    return found + [
        limit._replace(together={n: m for n, m in limit.together.items() if n not in stated})
        for limit in chain
    ]


_SHOW = ("sacctmgr", "--noheader", "--parsable2", "show")
_ACCOUNTS = "MaxWall,MaxTRES,GrpTRES,MaxTRESMins,MaxJobs,GrpJobs"
_QOS = "MaxWall,MaxTRES,GrpTRES,MaxTRESPU,MaxTRESPA,MaxTRESMins,MaxJobsPU,MaxJobsPA,GrpJobs"


def _qos_of(partition: str | None) -> str | None:
    """Return the QOS whose limits all jobs of a partition have, None if there is none.

    None stands for the default partition. Of several, where a job starts in any, it is the one
    that they share.
    """
    # --all: a partition that is hidden can be named nevertheless.
    text = commands.ask(["scontrol", "--all", "--oneliner", "show", "partition"], patience=0)
    found = set()
    for line in text.splitlines():
        fields = dict(word.partition("=")[::2] for word in line.split())
        name, default = fields.get("PartitionName"), fields.get("Default") == "YES"
        if default if partition is None else name in partition.split(","):
            found.add(fields.get("QoS", "N/A"))
    (qos,) = found if len(found) == 1 else ("N/A",)
    return None if qos == "N/A" else qos


def _of_qos(qos: str) -> list[JobLimit]:
    found = []
    words = ["qos", qos, f"format=Name,{_QOS}"]
    for line in commands.ask([*_SHOW, *words], patience=0).splitlines():
        if line.count("|") == 9:
            name, wall, most, together, of_user, of_account, times, *jobs = line.split("|")
            shared = (together, of_user, of_account)
            found.append(_limit(f"QOS {name}", wall, most, *shared, times=times, jobs=jobs))
    return found


def _above(account: str, cluster: str) -> list[JobLimit]:
    """Return what jobs may have together in an account and in each that it lies in."""
    found: list[JobLimit] = []
    seen: set[str] = set()
    while account and account not in seen and len(seen) < _DEEPEST:
        seen.add(account)
        # user= without a name: the account itself instead of its users.
        words = ["assoc", f"account={account}", f"cluster={cluster}", "user="]
        lines = commands.ask([*_SHOW, *words, "format=ParentName,GrpTRES,GrpJobs"], patience=0)
        parent, together, jobs = (lines.splitlines() or ["||"])[0].split("|")
        found.append(_limit(f"account {account}", "", "", together, jobs=[jobs]))
        account = parent
    return found


def _limit(
    whose: str, wall: str, tres: str, *together: str, times: str = "", jobs: Iterable[str] = ()
) -> JobLimit:
    try:
        longest = minutes(wall) if wall else None
    except ValueError:
        longest = None
    least: dict[str, str] = {}
    for text in together:
        for name, most in _amounts(text).items():
            least[name] = min(most, least.get(name, most), key=_number)
    numbers = [int(number) for number in jobs if number.isdecimal()]
    fewest = min(numbers, default=None)
    return JobLimit(whose, longest, _amounts(tres), least, _amounts(times), fewest)


def _number(amount: str) -> float:
    """Return a limit as a number: of megabytes, or of CPUs and GPUs, which have no unit."""
    return megabytes(amount) if amount.strip("0") else 0.0  # a job that asks for 0M asks for all


def _amounts(tres: str) -> dict[str, str]:
    """Read ``cpu=8,gres/gpu=2,mem=64G``; what is no amount of those is passed over."""
    found = dict(item.split("=", 1) for item in tres.split(",") if "=" in item)
    return {n: most for n, most in found.items() if re.fullmatch(r"\d+[KMGT]?", most)}
