"""What the library says on the way: records of the standard library's logger ``benchmark``.

The library never prints. The command line shows records of level INFO and above as lines on
standard error (cli/log.py); a program that uses the library configures logging as it likes.
"""

from __future__ import annotations

import logging

logger = logging.getLogger("benchmark")
logger.addHandler(logging.NullHandler())  # nobody has said where to: say nothing


def say(*lines: str) -> None:
    """Tell people something worth a line."""
    for line in lines:
        logger.info("%s", line, stacklevel=2)
