"""What must stand around every use of ffcv: it may be absent, and it changes thread counts."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator

import torch

from benchmark.base.errors import UserError


def require_ffcv() -> None:
    """Raise UserError, with what to do, where ffcv is not installed. Imports nothing."""
    if importlib.util.find_spec("ffcv") is None:
        raise UserError(
            "the ffcv reader needs ffcv, which is not installed: make demo installs it where"
            " system packages allow; small images need it not (reader: resident)"
        )


@contextlib.contextmanager
def kept_threads() -> Iterator[None]:
    """Restore torch's thread count: importing ffcv and building a Loader set it."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
