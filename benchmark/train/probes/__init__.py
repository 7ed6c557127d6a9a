"""Probes: what can be recorded of a run beside its numbers, epoch by epoch; one file a probe.

``recipe.probes`` names them. A probe's file says in its docstring's first line what it records,
and has a function ``observe(seen: Observation)`` (train/observed.py) that returns JSON values, or
None if there is nothing to see. It sees a run in eval mode after an epoch and changes
nothing: gradients by ``torch.autograd.grad``, no hooks that stay. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from benchmark.base.errors import unknown
from benchmark.base.modules import described_modules


@cache  # planning asks for every cell
def known_probes() -> dict[str, str]:
    """Return the probes by name, each with what it records."""
    return described_modules(__path__)


def check_probes(names: Iterable[str], where: str = "") -> None:
    """Raise UserError for a probe that does not exist."""
    known = known_probes()
    for name in names:
        if name not in known:
            raise unknown("probe", name, known, where)
