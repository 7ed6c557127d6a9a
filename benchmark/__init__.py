"""A reproduction suite for published knowledge-distillation tables.

The functions below are the public face, described with examples in docs/python.md; each is
imported when it is first used, so that importing this package imports neither torch nor pandas.
docs/architecture.md says what lives where.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.api.networks import load_method, load_student
    from benchmark.api.results import collect, judged_grid, to_frame
    from benchmark.api.tables import plan, status, submit

__version__ = "0.1.0"
__all__ = [
    "collect",
    "judged_grid",
    "load_method",
    "load_student",
    "plan",
    "status",
    "submit",
    "to_frame",
]
_HOMES = {
    "api.networks": ("load_method", "load_student"),
    "api.results": ("collect", "judged_grid", "to_frame"),
    "api.tables": ("plan", "status", "submit"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            found = getattr(importlib.import_module(f"{__name__}.{home}"), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
