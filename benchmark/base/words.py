"""Numbers and times in sentences, and text of others as text."""

from __future__ import annotations


def count(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 run``, ``1,200 runs``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def amount(size: float) -> str:
    """Return a number of bytes for people: ``3.2 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def printable(text: str) -> str:
    """Return text of others as a line that a terminal shows and does not obey.

    Control characters, line ends and what is no text become escapes such as ``\\x1b``.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def plain(text: str) -> str:
    """Return lines of text that a terminal shows and does not obey; line ends and tabs stay."""
    if text.isprintable():
        return text
    kept = text.replace("\r\n", "\n")
    return "".join(c if c.isprintable() or c in "\n\t" else _escaped(c) for c in kept)


def short(text: str, most: int = 200) -> str:
    """Return text of others as a line of at most ``most`` characters, visibly cut."""
    return printable(text if len(text) <= most else text[: most - 1] + "…")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()


def duration(seconds: float) -> str:
    """Return a length of time in its two largest units."""
    whole = max(0, round(seconds))
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes >= 5 else f"{minutes * 60 + rest} s"
