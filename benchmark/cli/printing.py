"""Print lines on standard output. Text of other users stands in them: it is shown, not obeyed."""

from __future__ import annotations

from collections.abc import Iterable

from benchmark.base.words import plain


def show(*texts: str) -> None:
    """Print texts, each on a line or lines of its own."""
    for text in texts:
        print(plain(text))


def show_parts(parts: Iterable[str]) -> None:
    """Print a text that comes in parts, as they come."""
    for part in parts:
        print(plain(part), end="", flush=True)
