"""Hold a profile against the live cluster before anything is queued. Imports no torch.

``sbatch --test-only`` alone is not enough: it accepts a time over the partition's limit, and a
queued job would then wait for ever.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from typing import NamedTuple

from benchmark.base.errors import UserError, unknown
from benchmark.base.trust import own_name
from benchmark.slurm import commands
from benchmark.slurm.notation import gpu_count, gpu_type, minutes
from benchmark.slurm.profile import Profile, Resources
from benchmark.slurm.script import test_options

_NO_SUCH_NODE = "Requested node configuration is not available"
# As %T spells them, with marks such as * behind them.
_AWAY = r"drain|down|fail|maint|reboot|power|unknown|inval|reserved|blocked|future|planned"
_NOT_CONFIGURED = 1.0  # megabytes that Slurm gives a node of which nobody said how many it has
_TRIES, _RETRY_SECONDS = 4, 2.0


class NodeKind(NamedTuple):
    """Nodes of one kind in a partition, as sinfo lists them."""

    partition: str
    default: bool
    minutes: float  # the partition's time limit
    gpus: dict[str, int]  # by type on one node; "" for the sum
    cpus: int
    mem: float  # megabytes
    away: bool = False  # drained, down, or in a partition that starts nothing


def read_nodes() -> list[NodeKind]:
    """Ask sinfo once for the partitions and their nodes."""
    # --all: a partition that is hidden can be named nevertheless.
    fields = "--format=%P|%l|%G|%c|%m|%T|%a"
    listed = commands.ask(["sinfo", "--all", "--noheader", "--exact", fields])
    return [parse_node(line) for line in listed.splitlines() if line.count("|") == 6]


def parse_node(line: str) -> NodeKind:
    """Read one line of sinfo's ``%P|%l|%G|%c|%m|%T|%a``."""
    name, limit, gres, cpus, mem, state, available = line.split("|")
    return NodeKind(
        partition=name.rstrip("*"),
        default=name.endswith("*"),
        minutes=minutes(limit),
        gpus=_parse_gres(gres),
        cpus=int(cpus),
        mem=float(mem),
        away=available != "up" or re.match(_AWAY, state) is not None,
    )


def _parse_gres(text: str) -> dict[str, int]:
    """Read ``gpu:a100:4(S:0-1),gpu:2,shard:8``."""
    found = {"": 0}
    for item in text.split(","):
        parts = item.partition("(")[0].split(":")
        if parts[0] == "gpu" and parts[-1].isdigit():
            kind = parts[1] if len(parts) == 3 else ""
            found[""] += int(parts[-1])
            if kind:
                found[kind] = found.get(kind, 0) + int(parts[-1])
    return found


def check_profile(profile: Profile, resources: Resources, nodes: Sequence[NodeKind]) -> str | None:
    """Refuse what this cluster would refuse, or would let wait for ever.

    Asks ``sbatch --test-only``. Returns a line to show where jobs are taken, but cannot start
    now. Raises UserError that names the profile, what was asked for, and what there is.
    """
    check_nodes(profile, resources, nodes)
    options = [*test_options(profile, resources), f"--signal=USR2@{profile.signal_seconds}"]
    command = ["sbatch", "--test-only", *options, "--wrap=true"]
    reply = _patiently(command)
    if reply.code == 0:
        return None
    failure = commands.error(command, reply)
    if isinstance(failure, commands.SlurmUnreachableError):
        raise failure
    if _NO_SUCH_NODE in reply.err:
        names = profile.partition.split(",") if profile.partition else _default(nodes)
        if all(node.away for node in nodes if node.partition in names):
            # A job that cannot start now is no wrong one: sbatch itself queues it.
            return (
                f"all nodes of partition {', '.join(names)} are drained, down or reserved: what is"
                " sent waits until they are back"
            )
    reason = commands.refusal(reply.err)
    hints = {
        "account": (r"invalid account", profile.account),
        "qos": (r"invalid qos", profile.qos),
        "constraint": (r"invalid feature", profile.constraint),
    }
    for option, (said, value) in hints.items():
        if re.search(said, reason, re.IGNORECASE):
            raise UserError(
                f"profile {profile.name}: Slurm refuses {option} '{value or '(your default)'}'"
                f" ({reason}){_yours(option)}"
            )
    raise UserError(f"profile {profile.name}: Slurm refuses such a job ({reason})")


def _patiently(command: Sequence[str]) -> commands.Reply:
    """Ask again for some seconds: a slurmctld that has just started knows no node yet."""
    for _ in range(_TRIES - 1):
        reply = commands.call(command)
        if reply.code == 0 or _NO_SUCH_NODE not in reply.err:
            return reply
        time.sleep(_RETRY_SECONDS)
    return commands.call(command)


def check_nodes(profile: Profile, resources: Resources, nodes: Sequence[NodeKind]) -> None:
    """Refuse a partition, time or size that no node offers. Pure; raises UserError."""
    where = f"profile {profile.name}"
    partitions = profile.partition.split(",") if profile.partition else _default(nodes)
    known = {node.partition for node in nodes}
    for name in partitions:
        if name not in known:
            raise unknown("partition", name, known, where)
    offered = [node for node in nodes if node.partition in partitions]
    named = ", ".join(partitions)
    longest = max(node.minutes for node in offered)
    if minutes(profile.time) > longest:
        raise UserError(
            f"{where}: time {profile.time} is over the limit of partition {named}"
            f" ({clock(longest)}); runs cross any number of time limits, so a shorter one is fine"
        )
    wanted, kind = gpu_count(resources.gpus), gpu_type(resources.gpus) or ""
    if wanted and kind and not any(kind in node.gpus for node in offered):
        types = sorted({name for node in offered for name in node.gpus if name})
        raise UserError(
            f"{where}: gpus {resources.gpus}: partition {named} has no GPU of type {kind} (types:"
            f" {', '.join(types) or 'none are named, so ask for a number'})"
        )
    if wanted > max(node.gpus.get(kind, 0) for node in offered):
        raise UserError(
            f"{where}: gpus {resources.gpus} is more than any node of partition {named} has"
            f" ({_most_gpus(offered)})"
        )
    most_cpus = max(node.cpus for node in offered)
    if resources.cpus * resources.tasks > most_cpus:
        times = f" for {resources.tasks} tasks a node" if resources.tasks > 1 else ""
        raise UserError(
            f"{where}: cpus-per-task {resources.cpus}{times} is more than any node of partition"
            f" {named} has ({most_cpus})"
        )
    most = max(node.mem for node in offered)
    if resources.megabytes == math.inf or resources.megabytes <= most:
        return
    if most <= _NOT_CONFIGURED:
        raise UserError(
            f"{where}: the nodes of partition {named} have no memory configured, so that Slurm"
            " refuses any amount; set 'mem: none' in the profile"
        )
    raise UserError(
        f"{where}: {'mem' if resources.mem_per_cpu is None else 'mem-per-cpu'}"
        f" {resources.memory} is more than any node of partition {named} has ({most:.0f}M)"
    )


def _default(nodes: Sequence[NodeKind]) -> list[str]:
    names = sorted({node.partition for node in nodes if node.default})
    if not names:
        listed = ", ".join(sorted({node.partition for node in nodes})) or "none"
        raise UserError(
            f"this cluster has no default partition: set partition in the profile (there is"
            f" {listed})"
        )
    return names


def _most_gpus(nodes: Sequence[NodeKind]) -> str:
    kinds = sorted({name for node in nodes for name in node.gpus if name})
    most = {name: max(node.gpus.get(name, 0) for node in nodes) for name in kinds or [""]}
    return ", ".join(f"{name}:{count}" if name else str(count) for name, count in most.items())


def clock(limit: float) -> str:
    """Return minutes as sbatch spells a time limit."""
    hours, mins = divmod(round(limit), 60)
    days, hours = divmod(hours, 24)
    return (f"{days}-" if days else "") + f"{hours:02}:{mins:02}:00"


def _yours(word: str) -> str:
    """The accounts or QOS that this user has, as a hint; nothing without slurmdbd."""
    if word == "constraint":
        return ""
    try:
        names = associations(word)
    except commands.SlurmError:
        return ""
    return f"; yours: {', '.join(names)}" if names else ""


def associations(word: str) -> list[str]:
    """Return the user's accounts or QOS from slurmdbd. Raises SlurmError."""
    command = ["sacctmgr", "--noheader", "--parsable2", "show", "assoc"]
    text = commands.ask([*command, f"user={own_name()}", f"format={word}"], patience=0)
    return sorted({name for line in text.splitlines() for name in line.split(",") if name})
