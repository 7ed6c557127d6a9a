"""What a cluster says of its partitions: who may use them, whose limits they have, their state.

sbatch takes jobs that a partition's lists exclude, unless a site enforces them, and lets them wait
for ever. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from benchmark.slurm import commands

_ALL = "ALL"


class Partition(NamedTuple):
    """One partition as `scontrol show partition` has it.

    ``qos``: the QOS whose limits all its jobs have. Lists of those who may, None where all may.
    """

    name: str
    default: bool = False
    state: str = "UP"
    qos: str | None = None
    accounts: tuple[str, ...] | None = None
    no_accounts: tuple[str, ...] = ()
    qoses: tuple[str, ...] | None = None
    no_qoses: tuple[str, ...] = ()

    def excludes(self, accounts: Collection[str], qos: str) -> str | None:
        """Return whom of a job's account and QOS the partition excludes, if it does.

        ``accounts``: the job's own, then those that it lies in; newer versions of Slurm let in
        what lies in an account that may. An empty name is not known and excludes nobody.
        """
        own = next(iter(accounts), "")
        if own and self.accounts is not None and not _folded(accounts) & _folded(self.accounts):
            return f"account {own} (it lets in {', '.join(self.accounts)})"
        if own in self.no_accounts:
            return f"account {own} (its DenyAccounts)"
        if qos and self.qoses is not None and not _folded([qos]) & _folded(self.qoses):
            return f"QOS {qos} (it takes {', '.join(self.qoses)})"
        if _folded([qos]) & _folded(self.no_qoses):
            return f"QOS {qos} (its DenyQos)"
        return None


def _folded(names: Collection[str]) -> set[str]:
    return {name.casefold() for name in names}  # as Slurm compares QOS


def parse_partition(line: str) -> Partition:
    """Read a line of `scontrol --oneliner show partition`."""
    fields = dict(word.partition("=")[::2] for word in line.split())

    def names(key: str) -> tuple[str, ...] | None:
        value = fields.get(key, _ALL)
        return None if value.upper() == _ALL else tuple(filter(None, value.split(",")))

    return Partition(
        fields.get("PartitionName", ""),
        fields.get("Default") == "YES",
        fields.get("State", "UP"),
        None if fields.get("QoS", "N/A") == "N/A" else fields["QoS"],
        names("AllowAccounts"),
        names("DenyAccounts") or (),
        names("AllowQos"),
        names("DenyQos") or (),
    )


def chosen_partitions(names: str | None) -> list[Partition]:
    """Ask for the partitions of a profile's ``partition``, of the default one if that is None.

    Raises SlurmError if Slurm does not answer.
    """
    # --all: a partition that is hidden can be named nevertheless.
    text = commands.ask(["scontrol", "--all", "--oneliner", "show", "partition"], patience=0)
    found = [parse_partition(line) for line in text.splitlines() if line.strip()]
    if names is None:
        return [partition for partition in found if partition.default]
    return [partition for partition in found if partition.name in names.split(",")]
