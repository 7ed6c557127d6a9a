"""A file of a run that grows by lines, and is cut back to where a checkpoint was taken."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from benchmark.base.files import open_regular
from benchmark.base.inside import appending


class Ledger:
    """Lines are noted, reach the disk when they are flushed, and survive a disk that is full."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pending: list[str] = []

    def note(self, line: str) -> None:
        """Note a line without its end; it reaches the disk with :meth:`flush`."""
        self._pending.append(f"{line}\n")

    def flush(self) -> None:
        """Append the noted lines. On an OSError they stay noted, and nothing is half written."""
        if not self._pending:
            return
        with appending(self.path) as lines:
            size = os.fstat(lines).st_size
            try:
                with os.fdopen(os.dup(lines), "a", encoding="utf-8") as file:
                    file.write("".join(self._pending))
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(lines, size)
                raise
        self._pending.clear()

    def settle(self) -> int:
        """Flush to the medium itself; return the file's size, 0 if nothing was ever noted."""
        self.flush()
        if not self.path.exists():
            return 0
        with open_regular(self.path) as file:
            os.fsync(file.fileno())
            return os.fstat(file.fileno()).st_size

    def cut(self, size: int) -> None:
        """Cut the file back to ``size`` bytes if it is longer."""
        if self.path.exists() and self.path.stat().st_size > size:
            with appending(self.path) as lines:
                os.ftruncate(lines, size)
