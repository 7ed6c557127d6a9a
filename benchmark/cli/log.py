"""Log records as lines on standard error, and how far long work is."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmark.base.log import logger


class StderrHandler(logging.Handler):
    """Writes records as plain lines; standard error is looked up then, so it may be exchanged."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
        except OSError:  # a closed pipe takes no lines; the work goes on
            self.handleError(record)


@contextmanager
def reporting() -> Iterator[None]:
    """Show records of ``benchmark`` from INFO on while the block runs."""
    before, handler = logger.level, StderrHandler()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def be_verbose() -> None:
    """Show everything from now on, each line with its time and the module it comes from."""
    logger.setLevel(logging.DEBUG)
    for handler in logger.handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(module)s: %(message)s"))


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
