"""What the library says on the way: records of the standard library's logger ``benchmark``.

The library logs and never prints. A program (the command line, a job) works inside
:func:`reporting`; there records from INFO on are plain lines on standard error, above whatever
live display moves there. Any other program configures logging as it likes.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TextIO

from benchmark.base.words import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

logger = logging.getLogger("benchmark")
logger.addHandler(logging.NullHandler())  # nobody has said where to: say nothing


def say(*lines: str) -> None:
    """Tell people something worth a line."""
    for line in lines:
        logger.info("%s", line, stacklevel=2)


class Reporter(logging.StreamHandler[TextIO]):
    """The one handler through which a program shows what the library says."""

    def __init__(self) -> None:
        super().__init__()
        self._console: Console | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record: a line of the stream, or above the live display."""
        if self._console is None:
            super().emit(record)
        else:
            self._console.print(self.format(record), highlight=False, markup=False)

    def format(self, record: logging.LogRecord) -> str:
        """Return a record's text, in which others' names may stand, as text and nothing else."""
        return plain(super().format(record))

    @contextmanager
    def above(self, console: Console) -> Iterator[None]:
        """Let a live display's console write the lines while the block runs."""
        before, self._console = self._console, console
        try:
            yield
        finally:
            self._console = before


@contextmanager
def reporting() -> Iterator[None]:
    """Show records of ``benchmark`` from INFO on while the block runs."""
    before, reporter = logger.level, Reporter()
    logger.addHandler(reporter)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(reporter)
        logger.setLevel(before)


def be_verbose() -> None:
    """Show everything from now on, each line with its time and the module it comes from."""
    logger.setLevel(logging.DEBUG)
    for reporter in _reporters():
        reporter.setFormatter(logging.Formatter("%(asctime)s %(module)s: %(message)s"))


def terminal() -> Console | None:
    """Return the terminal on which a program reports, None if nobody watches."""
    from rich.console import Console

    for reporter in _reporters():
        if reporter.stream.isatty():
            return Console(file=reporter.stream)
    return None


@contextmanager
def live(console: Console) -> Iterator[None]:
    """Let lines appear above a live display on ``console`` while the block runs."""
    with ExitStack() as stack:
        for reporter in _reporters():
            stack.enter_context(reporter.above(console))
        yield


def _reporters() -> list[Reporter]:
    return [handler for handler in logger.handlers if isinstance(handler, Reporter)]
