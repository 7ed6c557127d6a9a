"""Write a first profile from what sinfo and sacctmgr say of a cluster. Imports no torch."""

from __future__ import annotations

import re
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.files import make_directory, write_text
from benchmark.base.words import printable
from benchmark.base.yamlfile import parse_yaml, validate
from benchmark.slurm import commands
from benchmark.slurm.check import NodeKind, associations, check_profile, clock, read_nodes
from benchmark.slurm.profile import Profile, apply_caps
from benchmark.slurm.site import load_site

# Ways to ask for memory, the usual one first: some sites refuse --mem, or any amount.
_MEMORY = ("", "mem-per-cpu: 500M", "mem: none")


def init_profile(path: Path | None = None) -> Path:
    """Write a profile for this cluster and return its path, slurm/profiles/CLUSTER.yaml.

    Raises UserError if the file exists or Slurm does not answer; slurmdbd is not needed.
    """
    limits = commands.read_limits()
    target = path or Path("slurm") / "profiles" / f"{limits.cluster}.yaml"
    if target.exists():
        raise UserError(f"{target} exists; edit it, or remove it first")
    try:
        accounts, qos = associations("account"), associations("qos")
    except commands.SlurmError:
        accounts, qos = [], []
    nodes = read_nodes()
    texts = [profile_text(limits, nodes, accounts, qos, memory) for memory in _MEMORY]
    refused = ""
    for text in texts:
        why = _refusal(text, target, nodes)
        if why is None:
            break
        refused = refused or why
    else:
        # Not for its memory, then: somebody has to look at it.
        text = texts[0] + f"# sbatch --test-only refuses this as it stands: {printable(refused)}\n"
    make_directory(target.parent)
    write_text(target, text)
    return target


def _refusal(text: str, target: Path, nodes: list[NodeKind]) -> str | None:
    """Try a profile with ``sbatch --test-only``; returns why it is refused, None if it is not."""
    profile = validate(Profile, parse_yaml(text, str(target)), str(target))
    try:
        profile = apply_caps(profile, load_site())
        check_profile(profile, profile.resources(1, False), nodes)
    except commands.SlurmUnreachableError:
        raise
    except UserError as error:
        return str(error)
    return None


def profile_path(name: str | None) -> Path | None:
    """Return where a profile of this name, or of this path, is written."""
    if name is None:
        return None
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    if not re.fullmatch(r"[\w.-]+", name):
        raise UserError(f"--profile {name}: a name has letters, digits, '.', '_' and '-' only")
    return Path("slurm") / "profiles" / f"{name}.yaml"


def profile_text(
    limits: commands.ClusterLimits,
    nodes: list[NodeKind],
    accounts: list[str],
    qos: list[str],
    memory: str = "",
) -> str:
    """Return a profile as YAML: the partition that seems right, the others as comments.

    ``memory``: its line about memory, empty for the usual amount.
    """
    chosen = _choose(nodes)
    lines = [
        f"# Cluster {limits.cluster}, Slurm {limits.version}: written by `bench init slurm` from"
        " sinfo and sacctmgr.",
        f"# MaxArraySize {limits.max_array_size}, MaxJobCount {limits.max_job_count};"
        " larger submissions are split.",
        f"partition: {chosen.partition}",
    ]
    for node in _others(nodes, chosen):
        lines.append(f"# partition: {node.partition}  # {_describe(node)}")
    lines.append(f"# {_describe(chosen)}")
    if accounts:
        commented = "" if len(accounts) == 1 else "# "
        lines.append(f"{commented}account: {accounts[0]}  # yours: {', '.join(accounts)}")
    if qos:
        lines.append(f"# qos: {qos[0]}  # yours: {', '.join(qos)}")
    lines.append(f'time: "{clock(min(chosen.minutes, 24 * 60))}"')
    if chosen.gpus[""]:
        lines.append("gpus: 1  # without it, recipes with `device: auto` train on the CPU")
    if memory:
        lines.append(f"{memory}  # this cluster refuses the usual --mem")
    lines.append("# cpus-per-task and mem are the recipe's unless they are set here")
    lines.append("# data: /a/directory/that/all/nodes/share")
    lines.append("# runs: /a/directory/that/all/nodes/share")
    return "\n".join(lines) + "\n"


def _choose(nodes: list[NodeKind]) -> NodeKind:
    """The default partition, or the first with GPUs if that has none."""
    if not nodes:
        raise UserError("sinfo lists no partition")
    default = next((node for node in nodes if node.default), nodes[0])
    with_gpus = [node for node in nodes if node.gpus[""]]
    return default if default.gpus[""] or not with_gpus else with_gpus[0]


def _others(nodes: list[NodeKind], chosen: NodeKind) -> list[NodeKind]:
    found = {node.partition: node for node in nodes if node.partition != chosen.partition}
    return list(found.values())


def _describe(node: NodeKind) -> str:
    gpus = ", ".join(f"{count} {kind or 'GPUs'}" for kind, count in node.gpus.items() if count)
    limit = "no time limit" if node.minutes == float("inf") else f"at most {clock(node.minutes)}"
    return f"{node.cpus} CPUs, {node.mem:.0f}M, {gpus or 'no GPUs'} a node; {limit}"
