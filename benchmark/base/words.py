"""Numbers in sentences."""

from __future__ import annotations


def count(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 run``, ``1,200 runs``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def printable(text: str) -> str:
    """Return text of others as a line that a terminal shows and does not obey.

    Control characters, line ends and what is no text become escapes such as ``\\x1b``.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
