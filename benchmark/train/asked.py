"""Which outputs a run asks of its shared teacher, and which of them are kept.

Imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Collection

from benchmark.methods.catalog import method_info
from benchmark.run.identity import Run

# Of an answer these are kept; maps are too large.
KEPT = ("logits", "pooled")


def maps_read(run: Run) -> frozenset[str] | None:
    """Return what a run reads of its shared teacher beside the logits; None if it asks nothing."""
    infos = [method_info(method.name) for method in run.methods]
    asking = [info for info in infos if info.needs_teacher and info.private_teacher is None]
    if not asking:
        return None
    # A class that does not say it in so many words may read any of them.
    return frozenset(name for i in asking for name in i.attributes.get("teacher_maps", ("stages",)))


def kept_among(maps: Collection[str]) -> list[str]:
    """Return which outputs of an answer are kept for those who read ``maps`` beside the logits."""
    return [name for name in KEPT if name == "logits" or name in maps]
