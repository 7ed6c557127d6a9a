"""How far a long piece of work is: one line on a terminal that is written over."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def progress_line(name: str) -> Callable[[str, int, int], None]:
    """Return a function of (part, done, total) that shows progress on a terminal, once a second."""
    shown = {"at": 0.0}

    def show(part: str, done: int, total: int) -> None:
        now = time.monotonic()
        if not sys.stderr.isatty() or (done < total and now - shown["at"] < 1.0):
            return
        shown["at"] = now
        end = "\n" if done >= total else ""
        sys.stderr.write(f"\r{name} {part}: {done:,} of {total:,} images{end}")
        sys.stderr.flush()

    return show
