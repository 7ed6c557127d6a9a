"""What the library says while it works: log records of ``benchmark``, and one reporter for them.

The library logs and never prints. A program (the command line, a job) works
inside :func:`reporting`; there every record is a plain line on standard error, and long
work shows how far it is if that is a terminal.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

logger = logging.getLogger("benchmark")
logger.addHandler(logging.NullHandler())  # no program has said where to: say nothing


class Reporter(logging.Handler):
    """Writes records as lines on standard error, above whatever moves there."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._console: Console | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; standard error is looked up now, so that it may be exchanged."""
        text = self.format(record)
        if self._console is not None:
            self._console.print(text, highlight=False, markup=False)
            return
        try:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
        except OSError:  # a closed pipe takes no lines; the work goes on
            self.handleError(record)

    @contextmanager
    def above(self, console: Console) -> Iterator[None]:
        """Let a live display's console write the lines while the block runs."""
        before, self._console = self._console, console
        try:
            yield
        finally:
            self._console = before


def say(*lines: str) -> None:
    """Tell the person something worth a line."""
    for line in lines:
        logger.info("%s", line, stacklevel=2)


@contextmanager
def reporting() -> Iterator[None]:
    """Make records of ``benchmark`` lines on standard error while the block runs."""
    before, reporter = logger.level, Reporter()
    logger.addHandler(reporter)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(reporter)
        logger.setLevel(before)


def be_verbose() -> None:
    """Report everything from now on, each line with its time and the module it comes from."""
    logger.setLevel(logging.DEBUG)
    for reporter in _reporters():
        reporter.setLevel(logging.DEBUG)
        reporter.setFormatter(logging.Formatter("%(asctime)s %(module)s: %(message)s"))


def _reporters() -> list[Reporter]:
    return [handler for handler in logger.handlers if isinstance(handler, Reporter)]


def on_terminal() -> bool:
    """Say whether a program reports here and a person watches it."""
    return bool(_reporters()) and sys.stderr.isatty()


@contextmanager
def live(console: Console) -> Iterator[None]:
    """Let lines appear above a live display on ``console`` while the block runs."""
    with ExitStack() as stack:
        for reporter in _reporters():
            stack.enter_context(reporter.above(console))
        yield


def progress_line(name: str) -> Callable[[str, int, int], None]:
    """Return a function of (part, done, total) that shows progress on a terminal, once a second."""
    shown = {"at": 0.0}

    def show(part: str, done: int, total: int) -> None:
        now = time.monotonic()
        if not on_terminal() or (done < total and now - shown["at"] < 1.0):
            return
        shown["at"] = now
        end = "\n" if done >= total else ""
        sys.stderr.write(f"\r{name} {part}: {done:,} of {total:,} images{end}")
        sys.stderr.flush()

    return show
