"""A crew of several processes over torch.distributed: NCCL between GPUs, gloo for all else.

What steers (meetings, plain values) goes over gloo, also beside GPUs: it never waits for a device,
and a process that died is noticed at once.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.train.crew import Crew, PeerLostError, in_order

T = TypeVar("T")
# The first process may measure a teacher or write large files while the others wait.
PATIENCE = timedelta(hours=6)
# How long a process that was told to stop waits for the others before it saves and leaves.
GRACE_SECONDS = 20.0
_POLL = timedelta(seconds=0.5)
_DIED = "another process of the run ended without a word, or its node did; see its log"


def _lost(said: str) -> str:
    """Return what became of another process, from what torch says of it."""
    if re.search(r"closed by peer|reset by peer|[Bb]roken pipe|Read error|Write error", said):
        return _DIED
    line = (said.strip().splitlines() or ["no reason given"])[0]
    return f"another process of the run cannot be reached ({line[:200]})"


class Processes(Crew):
    """This process and its peers, which have joined a process group already.

    ``stop`` returns a reason once this process should leave, ``alive`` what became of a peer that
    has ended, if that is known: it then waits no longer for a peer that does not answer than
    ``GRACE_SECONDS``. (gloo mostly notices that a peer is gone, but not always.)
    """

    def __init__(
        self,
        local: int = 0,
        stop: Callable[[], str | None] = lambda: None,
        alive: Callable[[], str | None] = lambda: None,
    ) -> None:
        super().__init__()
        self.process, self.processes = dist.get_rank(), dist.get_world_size()
        self._local, self._stop, self._alive = local, stop, alive
        self._gpus: Any = None

    def use(self, device: str) -> None:
        """Choose this process's GPU, and let gradients go from GPU to GPU."""
        if device != "cuda" or self._gpus is not None:
            return
        count = torch.cuda.device_count()
        if self._local >= count > 1:
            raise UserError(f"process {self.process} has no GPU: {count} are visible on its node")
        torch.cuda.set_device(self._local % max(1, count))
        self._gpus = dist.new_group(backend="nccl", timeout=PATIENCE)

    def added(self, rows: Tensor, replicas: int) -> Tensor:
        """Return the sum over all replicas: each process adds a stretch of it for all others."""
        share, (own, length) = self.share(replicas), rows.shape
        stretch = length // self.processes
        sent = rows.view(own, self.processes, stretch).transpose(0, 1).contiguous()
        found = rows.new_empty(replicas * stretch)
        sizes = [len(share.carried(process)) * stretch for process in range(self.processes)]
        self._done(
            dist.all_to_all_single,
            *(found, sent.view(-1), sizes, [own * stretch] * self.processes),
        )
        mine = in_order(found.view(replicas, stretch))
        total = rows.new_empty(self.processes, stretch)
        self._done(dist.all_gather, list(total.unbind()), mine)
        return total.view(-1)

    def gathered(self, own: Tensor) -> list[Tensor]:
        """Return what each process gives."""
        found = [torch.empty_like(own) for _ in range(self.processes)]
        self._done(dist.all_gather, found, own, group=dist.group.WORLD)
        return found

    def objects(self, own: T) -> list[T]:
        """Return what each process gives, as JSON does: tuples become lists."""
        content = torch.frombuffer(bytearray(json.dumps(own).encode()), dtype=torch.uint8)
        sizes = [int(size) for size in self.gathered(torch.tensor([len(content)]))]
        padded = torch.zeros(max(sizes), dtype=torch.uint8)
        padded[: len(content)] = content
        pairs = zip(self.gathered(padded), sizes, strict=True)
        return [json.loads(found[:size].numpy().tobytes()) for found, size in pairs]

    def first(self, tensors: Sequence[Tensor]) -> None:
        """Give every process the first one's values, a message for each kind of number."""
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            group = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.reshape(-1) for tensor in group])
            self._done(dist.broadcast, flat, 0)
            begin = 0
            for tensor in group:
                end = begin + tensor.numel()
                tensor.copy_(flat[begin:end].view(tensor.shape))
                begin = end

    def close(self) -> None:
        """Leave the process group."""
        dist.destroy_process_group()

    def _done(self, action: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Run a collective operation to its end, or to that of a peer or of our patience."""
        try:
            group = kwargs.pop("group", self._gpus or dist.group.WORLD)
            work = action(*args, **kwargs, group=group, async_op=True)
            if group is self._gpus:
                work.wait()  # on the device: nothing waits here
            else:
                self._wait(work)
        except RuntimeError as error:
            raise PeerLostError(_lost(str(error))) from error

    def _wait(self, work: Any) -> None:
        since: float | None = None
        while True:
            try:
                work.wait(_POLL)
                return
            except RuntimeError:
                if work.is_completed():
                    raise
            # Python's signal handlers run between two waits.
            stop = self._stop()
            if stop is None and self._alive() is None:
                continue
            since = since or time.monotonic()
            if time.monotonic() - since > GRACE_SECONDS:
                asked = "asked to stop, and another process does not answer"
                raise PeerLostError(_DIED if stop is None else asked)
