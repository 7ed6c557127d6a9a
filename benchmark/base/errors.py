"""Errors that speak to the person at the terminal.

Every :class:`UserError` is printed by the command line as one line and ends it with exit
code 2; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LISTED = 200


class UserError(ValueError):
    """What was asked cannot be done; the message says why and what to do instead."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or the name of its kind if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def unknown(kind: str, name: str, valid: Iterable[str], where: str = "") -> UserError:
    """Return the error for a name that is not one of ``valid``, with the nearest guess.

    ``kind`` is the noun the user knows ("method", "partition"); ``where`` says in which file
    or option the name stood.
    """
    names = sorted(valid)
    place = f" in {where}" if where else ""
    if len(names) > _LISTED:  # a list of thousands says nothing
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.3)
        guess = f"; did you mean {' or '.join(repr(each) for each in near)}?" if near else ""
        return UserError(f"unknown {kind} '{name}'{place}{guess} ({len(names):,} are known)")
    listed = ", ".join(names) if names else "none"
    return UserError(f"unknown {kind} '{name}'{place}{nearest(name, names)} (valid: {listed})")


def nearest(name: str, valid: Iterable[str], cutoff: float = 0.5) -> str:
    """Return ``; did you mean 'kd'?``: the nearest of the names, whatever the case, if one is near.

    ``cutoff``: how alike they must be, from 0 to 1.
    """
    names = {each.lower(): each for each in valid}
    guess = difflib.get_close_matches(name.lower(), names, n=1, cutoff=cutoff)
    return f"; did you mean '{names[guess[0]]}'?" if guess else ""
