"""Libraries that are needed for one thing alone, and that not everybody installs."""

from __future__ import annotations

import importlib
from types import ModuleType

from benchmark.base.errors import UserError


def optional(module: str, extra: str, what: str) -> ModuleType:
    """Import a module of an extra of this project.

    Raises UserError that says what needs it and what to install, if it is not there.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{what} need {module.partition('.')[0]}; install it with:"
            f" pip install 'kd-benchmark[{extra}]'"
        ) from error
