"""Which replicas of a run a process carries, and which images of a batch are theirs.

A recipe says into how many replicas every batch is cut. Replica r of N takes each N-th image from
the r-th on, as torch's DistributedSampler deals them and repeated augmentation expects; an uneven
last batch is dealt likewise, none repeated and none dropped. Replicas lie in blocks on the
processes, so that what a process holds, in order, is theirs in order.
"""

from __future__ import annotations

from typing import NamedTuple


class Shard(NamedTuple):
    """One of ``processes`` that carry ``replicas``; each carries at least one."""

    replicas: int = 1
    process: int = 0
    processes: int = 1

    def carried(self, process: int) -> range:
        """Return the replicas that a process carries."""
        first = process * self.replicas // self.processes
        return range(first, (process + 1) * self.replicas // self.processes)

    @property
    def own(self) -> range:
        """The replicas that this process carries."""
        return self.carried(self.process)

    def parts(self, size: int) -> list[range]:
        """Return the positions, in a batch of ``size``, of each replica that it carries."""
        return [range(replica, size, self.replicas) for replica in self.own]

    def turns(self, count: int) -> range:
        """Return which of ``count`` batches of an evaluation this process takes."""
        return range(self.process, count, self.processes)


WHOLE = Shard()
