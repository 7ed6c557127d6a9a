"""One pass of ffcv's pipeline over chosen samples, which cannot hang and touches no thread count.

ffcv's own iterator waits for ever when a stage raises, shuffles by its own generator, and sets
torch's thread count in every pass; this one keeps its compiled pipeline and its memory, and
replaces the loop around them. A pass that is left early ends its thread before the process ends:
a thread that comes back from compiled code into an interpreter that is gone aborts the process.
"""

from __future__ import annotations

import atexit
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from ffcv.loader import Loader
from ffcv.loader.epoch_iterator import EpochIterator
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.data.ffcv_ops import Cell, Table
from benchmark.data.order import Indices

# Longest wait for one batch, compilation included (22 s were seen on a busy machine).
PATIENCE_SECONDS = 600.0

# Longest wait, on closing, for the thread to finish the batch that it is at.
CLOSING_SECONDS = 30.0

# Pipelines run one at a time: some of numba's threading layers abort when two threads enter
# parallel code at once, and a cell serves every pass of its loader.
_one_at_a_time = threading.Lock()

# Passes that nobody has closed yet; an error's traceback or an early end may keep them.
_open: weakref.WeakSet[Epoch] = weakref.WeakSet()


class Epoch(EpochIterator):  # type: ignore[misc]
    """Yields image batches [B, H, W, 3] uint8 in ``order``; each is valid until the next.

    ``rows_of`` gives the table of a batch's parameters from its number and indices. Raises
    UserError for images that cannot be decoded and passes on whatever a stage raised.
    """

    def __init__(
        self, loader: Loader, order: Indices, cell: Cell, rows_of: Callable[[int, Indices], Table]
    ) -> None:
        self._cell, self._rows_of = cell, rows_of
        self._failure: BaseException | None = None
        super().__init__(loader, order.astype(np.uint64))
        _open.add(self)

    def run(self) -> None:
        """Prepare batches ahead until all are made or the pass is closed."""
        try:
            numba.set_num_threads(self.loader.num_workers)
            numba.set_parallel_chunksize(1)  # images differ in cost: who is done takes the next
            for number, indices in enumerate(self.iter_ixes):
                slot = number % (self.loader.batches_ahead + 2)
                with _one_at_a_time:
                    images = self._make(number, indices, slot)
                if not self._hand_over(images):
                    return
        except Exception as error:  # handed to the consumer, who raises it
            self._failure = error
        self._hand_over(None)

    def _make(self, number: int, indices: Any, slot: int) -> Tensor:
        rows = np.ascontiguousarray(self._rows_of(number, indices.astype(np.int64)))
        failures = np.zeros(len(indices), np.int64)
        self._cell.point(rows, failures)
        (images,) = self.run_pipeline(number, indices, slot, None)
        if failures.any():
            raise UserError(
                f"{self.loader.fname}: image {int(indices[failures.argmax()])} cannot be decoded;"
                " see: bench data verify"
            )
        assert isinstance(images, Tensor)
        return images

    def _hand_over(self, images: Tensor | None) -> bool:
        while not self.terminate_event.is_set():
            try:
                self.output_queue.put(images, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def __next__(self) -> Tensor:
        """Return the next batch, or raise what ended the pass."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                images = self.output_queue.get(timeout=1.0)
                break
            except queue.Empty:
                if not self.is_alive() and self.output_queue.empty():
                    raise RuntimeError(f"the thread that reads {self.loader.fname} died") from None
                if time.monotonic() > deadline:
                    raise RuntimeError(
                        f"no batch of {self.loader.fname} in {PATIENCE_SECONDS:.0f} seconds"
                    ) from None
        if images is None:
            self.close()
            if self._failure is not None:
                raise self._failure
            raise StopIteration
        assert isinstance(images, Tensor)
        return images

    def close(self) -> None:
        """End the thread, after the batch that it is at, and give the pass's memory back."""
        self.terminate_event.set()
        # Garbage may be collected by another pass's thread, for which this one may be waiting.
        if self.is_alive() and not isinstance(threading.current_thread(), Epoch):
            self.join(CLOSING_SECONDS)
        super().close()


@atexit.register
def _close_all() -> None:
    passes = list(_open)
    for passing in passes:
        passing.terminate_event.set()  # all at once: each may be at a batch
    for passing in passes:
        passing.close()
