"""The processes that train one pack together: what they tell each other, and when.

All take the same steps at the same time. Before gradients are exchanged, and after each step, they
meet: a run that raised an error in one of them, or a request to stop that one received, is then
known to all of them at the same point of the training. Gradients are added in the order of the
replicas, element by element, so that no number depends on which process carries which of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from benchmark.base.share import Shard

T = TypeVar("T")
_TICK = -1  # the place between two steps
_NOBODY = -1
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class Interrupted(Exception):  # noqa: N818 - a request to stop is no error
    """Somebody asked the pack to stop; its state is to be saved and continued later."""


class PeerLostError(Interrupted):
    """Another process of the pack ended, or does not answer."""


class PeerFailedError(Exception):
    """A run raised an error in another process; its words are the message."""


class _Word(NamedTuple):
    """What one process says: where it is, which run failed there, and whether it is to stop.

    ``digest``: of what it is about to exchange, which must be the same everywhere.
    """

    place: int
    failed: int = _NOBODY
    stop: int = 0
    digest: int = 0


class Crew:
    """One process alone; see ``Processes`` for several, which send what is computed here.

    ``failed`` holds, by the keys of runs, why they failed in some process.
    """

    process = 0
    processes = 1

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}
        self._keys: list[str] = []

    def share(self, replicas: int) -> Shard:
        """Return which replicas this process carries."""
        return Shard(replicas, self.process, self.processes)

    def use(self, device: str) -> None:
        """Prepare to exchange gradients that lie on a device."""

    def begin(self, keys: Sequence[str]) -> None:
        """Start with the runs of a pack, the same in all processes."""
        self._keys, self.failed = list(keys), {}

    # -- meetings -------------------------------------------------------------------------------

    def meet(self, key: str, content: str) -> None:
        """Wait until every process is about to exchange the gradients of a run.

        ``content`` describes what is exchanged. Raises PeerFailedError if the run failed in
        another process, RuntimeError where processes would exchange different things.
        """
        place = self._keys.index(key) if self.processes > 1 else 0
        digest = zlib.crc32(content.encode())
        while self.processes > 1:
            words = self._say(_Word(place, digest=digest))
            if key in self.failed:
                raise PeerFailedError(self.failed[key])
            if all(word.failed == _NOBODY for word in words):
                if len({word.digest for word in words}) > 1:
                    raise RuntimeError(f"the processes disagree on the gradients of {key}")
                return

    def report(self, key: str, error: Exception) -> None:
        """Tell the others that a run failed here; none of them takes its step."""
        if self.processes > 1:
            number = self._keys.index(key)
            self._say(_Word(number, failed=number), str(error) or type(error).__name__)

    def between(self, act: Callable[[], Collection[str]]) -> set[str]:
        """Meet between two steps, after each process did what it does there.

        Returns the runs to let go of: those that the first one's ``act`` returns. Raises
        Interrupted in all processes if it was raised in one.
        """
        if self.processes == 1:
            return set(act())
        stop: str | None = None
        dropped: Collection[str] = ()
        try:
            dropped = act()
        except PeerLostError:
            raise
        except Interrupted as asked:
            stop = str(asked)
        while True:
            words = self._say(_Word(_TICK, stop=int(stop is not None)))
            if all(word.failed == _NOBODY for word in words):
                break
        asking = [process for process, word in enumerate(words) if word.stop]
        if asking:
            raise Interrupted(stop or f"process {asking[0]} was told to stop")
        return self._let_go(dropped)

    def _let_go(self, dropped: Collection[str]) -> set[str]:
        flags = torch.tensor([int(key in dropped) for key in self._keys])
        (first, *_) = self.gathered(flags)
        return {key for key, flag in zip(self._keys, first.tolist(), strict=True) if flag}

    def _say(self, word: _Word, text: str = "") -> list[_Word]:
        heard = self.gathered(torch.tensor(word))
        words = [_Word(*row) for row in torch.stack(heard).tolist()]
        if any(one.failed != _NOBODY for one in words):
            for one, reason in zip(words, self.objects(text), strict=True):
                if one.failed != _NOBODY:
                    self.failed.setdefault(self._keys[one.failed], reason)
        return words

    def rounds(self, own: Iterator[T]) -> Iterator[T | None]:
        """Yield what an iterator yields, and None until those of all processes are through."""
        if self.processes == 1:
            yield from own
            return
        while True:
            item = next(own, None)
            flags = self.gathered(torch.tensor([int(item is not None)]))
            if not any(int(flag) for flag in flags):
                return
            yield item

    # -- what is exchanged ----------------------------------------------------------------------

    def added(self, rows: Tensor, replicas: int) -> Tensor:
        """Return the sum [L] of the rows of all replicas, in their order.

        ``rows`` [own, L]: of the replicas that this process carries; the processes divide L.
        """
        return in_order(rows)

    def gathered(self, own: Tensor) -> list[Tensor]:
        """Return what each process gives: tensors of one shape on the CPU."""
        return [own]

    def objects(self, own: T) -> list[T]:
        """Return plain values of each process, as JSON holds them."""
        return [own]

    def first(self, tensors: Sequence[Tensor]) -> None:
        """Give every process the first one's values, in place."""

    def told(self, value: Any) -> Any:
        """Return what the first process says."""
        return self.objects(value)[0]

    def close(self) -> None:
        """Leave the others."""


def fingerprint(tensors: Sequence[Tensor]) -> int:
    """Return a number that depends on every bit of tensors."""
    total = 0
    for tensor in tensors:
        bits = tensor.detach().view(_BITS[tensor.element_size()])
        total = total * 31 + int(bits.sum(dtype=torch.int64))
    return total % (1 << 61)


def in_order(rows: Tensor) -> Tensor:
    """Return the sum of rows [N, L], from the first to the last."""
    total = rows[0].clone()
    for row in rows[1:]:
        total += row
    return total


ALONE = Crew()
