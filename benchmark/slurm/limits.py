"""The limits of accounts and QOS, as sacctmgr tells them, and which of them stand.

They are known to slurmdbd alone. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from benchmark.base.trust import own_name
from benchmark.slurm import commands
from benchmark.slurm.notation import megabytes, minutes
from benchmark.slurm.partitions import Partition
from benchmark.slurm.profile import Profile


class JobLimit(NamedTuple):
    """The most that one job may ask for; what is not limited is None or left out.

    ``tres_minutes``: of its time as well; ``node``: on one node; ``least``: what a job has to ask
    for. What many jobs may have between them: ``group`` all of them, ``user`` one user's,
    ``account`` one account's; ``max_jobs`` and ``group_jobs``: how many may run at once. ``over``:
    a QOS that stands above the partition's.
    """

    whose: str  # "account lab", "QOS normal"
    minutes: float | None = None
    tres: Mapping[str, str] = {}  # cpu=8, gres/gpu=2, mem=64G
    group: Mapping[str, str] = {}
    user: Mapping[str, str] = {}
    account: Mapping[str, str] = {}
    tres_minutes: Mapping[str, str] = {}
    max_jobs: int | None = None
    group_jobs: int | None = None
    node: Mapping[str, str] = {}
    least: Mapping[str, str] = {}
    over: bool = False

    @property
    def together(self) -> Mapping[str, str]:
        """What a job of more would wait for ever for."""
        return _least(self.group, self.user, self.account)

    @property
    def jobs(self) -> int | None:
        """How many jobs may run at once."""
        known = [number for number in (self.max_jobs, self.group_jobs) if number is not None]
        return min(known, default=None)


class Affiliation(NamedTuple):
    """As whom a job of the profile counts: its account and those above, its QOS, their limits.

    ``qos``: "" where neither the profile nor the association names one, and Slurm takes its own.
    """

    accounts: tuple[str, ...]
    qos: str
    limits: tuple[JobLimit, ...]


# An account lies in another at most so deep.
_DEEPEST = 16

# The columns that are asked of sacctmgr.
_SHOW = ("sacctmgr", "--noheader", "--parsable2", "show")
# Without GrpTRESMins: jobs start whatever they ask for, unless a site enforces "safe".
_MINUTES = "MaxTRESMins,GrpTRESRunMins"
_ACCOUNTS = f"MaxWall,MaxTRES,GrpTRES,MaxTRESPerNode,{_MINUTES},MaxJobs,GrpJobs"
_QOS = (
    f"MaxWall,MaxTRES,GrpTRES,MaxTRESPU,MaxTRESPA,MaxTRESPerNode,MinTRES,{_MINUTES},"
    "MaxJobsPU,MaxJobsPA,GrpJobs,Flags"
)


def read_affiliation(profile: Profile, cluster: str = "") -> Affiliation | None:
    """Return as whom jobs of the profile count, None if slurmdbd knows no such user.

    One slurmdbd may serve several clusters; those that are not ``cluster`` are left out.
    Slurm gives an account's limits of one job to its users; what jobs may have together stands at
    each account above theirs, so these follow. Raises SlurmError if slurmdbd does not answer.
    """
    fields = f"format=Account,Partition,DefaultQOS,QOS,Cluster,{_ACCOUNTS}"
    text = commands.ask([*_SHOW, "assoc", f"user={own_name()}", fields], patience=0)
    columns = fields.count(",")
    rows = [line.split("|") for line in text.splitlines() if line.count("|") == columns]
    rows = [row for row in rows if not cluster or row[4].casefold() == cluster.casefold()]
    accounts = {row[0] for row in rows}
    account = profile.account or (accounts.pop() if len(accounts) == 1 else None)
    if account is None:
        user = ["user", own_name(), "format=DefaultAccount"]
        account = commands.ask([*_SHOW, *user], patience=0).strip()
    mine = [row for row in rows if row[0] == account and row[1] in ("", profile.partition)]
    if not mine:
        return None
    row = max(mine, key=lambda row: bool(row[1]))
    wall, most, together, node, *rest = row[5:]
    own = _limit(
        f"account {account}", wall, most, together, node=node, times=rest[:2], jobs=rest[2:]
    )
    above = _above(account, row[4])
    names = tuple(limit.whose.removeprefix("account ") for limit in above)
    qos = profile.qos or row[2] or _usual(row[3])
    return Affiliation(names or (account,), qos, (own, *above))


def _usual(allowed: str) -> str:
    """Return the QOS that Slurm gives jobs without one where an association has no default.

    Seen on 22.05: the one allowed, else the one that was made first, which is "normal" wherever
    that was not deleted. "" where neither says it.
    """
    names = [name for name in allowed.split(",") if name and name[0] not in "+-"]
    return names[0] if len(names) == 1 else "normal" if "normal" in names else ""


def job_limits(
    partition: Partition, affiliation: Affiliation, of_qos: Callable[[str], list[JobLimit]]
) -> list[JobLimit]:
    """Return the limits of the partition's QOS, of the QOS that jobs have, then of their accounts.

    What jobs may have together is limited by the first QOS that says anything of it, and by the
    accounts only where none does. ``of_qos`` asks for the limits of one.
    """
    several: list[JobLimit] = []
    for qos in dict.fromkeys(filter(None, (partition.qos, affiliation.qos))):
        several += of_qos(qos)
    found: list[JobLimit] = []
    for limit in sorted(several, key=lambda limit: not limit.over):
        found.append(_without(limit, found))
    return found + [_without(limit, found) for limit in affiliation.limits]


def _without(limit: JobLimit, stated: list[JobLimit]) -> JobLimit:
    """Return a limit less what jobs may have together of which others say the same already."""

    def left(kind: str) -> dict[str, str]:
        known = {name for other in stated for name in getattr(other, kind)}
        return {name: most for name, most in getattr(limit, kind).items() if name not in known}

    def number(kind: str) -> int | None:
        hidden = any(getattr(other, kind) is not None for other in stated)
        found: int | None = None if hidden else getattr(limit, kind)
        return found

    return limit._replace(
        group=left("group"),
        user=left("user"),
        account=left("account"),
        max_jobs=number("max_jobs"),
        group_jobs=number("group_jobs"),
    )


def qos_limits(qos: str) -> list[JobLimit]:
    """Return the limits of a QOS, none if there is no such. Raises SlurmError."""
    found = []
    fields = f"format=Name,{_QOS}"
    for line in commands.ask([*_SHOW, "qos", qos, fields], patience=0).splitlines():
        if line.count("|") == fields.count(","):
            name, wall, most, *rest = line.split("|")
            shared, (node, least), times, jobs = rest[:3], rest[3:5], rest[5:7], rest[7:10]
            limit = _limit(f"QOS {name}", wall, most, *shared, times=times, jobs=jobs, node=node)
            flags = rest[10].casefold().split(",")
            if "relative" in flags:  # its amounts are percentages of the cluster
                limit = _limit(limit.whose, wall, "", jobs=jobs)
                least = ""
            found.append(limit._replace(least=_amounts(least), over="overpartqos" in flags))
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
        answers = [line for line in lines.splitlines() if line.count("|") == 2]
        parent, together, jobs = (answers or ["||"])[0].split("|")
        found.append(_limit(f"account {account}", "", "", together, jobs=["", jobs]))
        account = parent
    return found


def _limit(
    whose: str,
    wall: str,
    tres: str,
    group: str = "",
    user: str = "",
    account: str = "",
    *,
    times: Iterable[str] = (),
    jobs: Iterable[str] = (),
    node: str = "",
) -> JobLimit:
    """Return a limit of sacctmgr's words; ``jobs``: its kinds of MaxJobs, and GrpJobs last."""
    try:
        longest = minutes(wall) if wall else None
    except ValueError:
        longest = None
    *most, together = [int(n) if n.isdecimal() else None for n in jobs] or [None]
    return JobLimit(
        whose,
        longest,
        _amounts(tres),
        _amounts(group),
        _amounts(user),
        _amounts(account),
        _least(*map(_amounts, times)),
        min((number for number in most if number is not None), default=None),
        together,
        _amounts(node),
    )


def _least(*several: Mapping[str, str]) -> dict[str, str]:
    """Return the smallest of what several limits say of each."""
    least: dict[str, str] = {}
    for amounts in several:
        for name, most in amounts.items():
            least[name] = min(most, least.get(name, most), key=number_of)
    return least


def number_of(amount: str) -> float:
    """Return a limit as a number: of megabytes, or of CPUs and GPUs, which have no unit."""
    return megabytes(amount) if amount.strip("0") else 0.0  # a job that asks for 0M asks for all


def _amounts(tres: str) -> dict[str, str]:
    """Read ``cpu=8,gres/gpu=2,mem=64G``; what is no amount of those is passed over."""
    found = dict(item.split("=", 1) for item in tres.split(",") if "=" in item)
    return {n: most for n, most in found.items() if re.fullmatch(r"\d+[KMGT]?", most)}
