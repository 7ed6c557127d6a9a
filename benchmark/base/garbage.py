"""Python's search for cycles, put off while much is made that stays."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def no_search_for_cycles() -> Iterator[None]:
    """Put the search for cycles off, if it is on: it would look at every new object many times.

    For a part that makes many objects which live on, and hardly any cycles. What nobody holds any
    more is freed at once, as ever.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
