"""Random number state that belongs to one run, whoever else trains in the same process."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor


def stream_seed(seed: int, purpose: str) -> int:
    """Return a 63-bit seed for one purpose of a run; different purposes are independent."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextlib.contextmanager
def seeded(seed: int, purpose: str) -> Iterator[None]:
    """Run a block with torch's generators seeded, and put them back as they were."""
    own = RunRng(seed, purpose)
    with own.active():
        yield


class RunRng:
    """A run's own state of torch's default generators, swapped in around its computations."""

    def __init__(self, seed: int, purpose: str) -> None:
        generator = torch.Generator().manual_seed(stream_seed(seed, purpose))
        self._cpu = generator.get_state()
        self._cuda: Tensor | None = None
        if torch.cuda.is_available():
            device = torch.Generator("cuda").manual_seed(stream_seed(seed, purpose))
            self._cuda = device.get_state()

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Swap the state in for a block; what the block draws advances it."""
        outer = torch.get_rng_state()
        outer_cuda = torch.cuda.get_rng_state() if self._cuda is not None else None
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda)
        try:
            yield
        finally:
            self._cpu = torch.get_rng_state()
            torch.set_rng_state(outer)
            if outer_cuda is not None:
                self._cuda = torch.cuda.get_rng_state()
                torch.cuda.set_rng_state(outer_cuda)

    def state(self) -> dict[str, Tensor]:
        """Return the state as tensors, for a checkpoint."""
        return {"cpu": self._cpu} | ({} if self._cuda is None else {"cuda": self._cuda})

    def load(self, state: dict[str, Tensor]) -> None:
        """Take a state from a checkpoint."""
        self._cpu = state["cpu"]
        if self._cuda is not None and "cuda" in state:
            self._cuda = state["cuda"]
