"""The 1000 classes of ImageNet, whose order is the order of every public network's logits."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from benchmark.base.errors import UserError


@cache
def imagenet_classes() -> tuple[str, ...]:
    """Return the sorted folder names (wnids), from the list that timm ships; imports no timm."""
    spec = importlib.util.find_spec("timm")
    if spec is None or spec.origin is None:
        raise UserError("the classes of ImageNet are read from timm, which is not installed")
    path = Path(spec.origin).parent / "data" / "_info" / "imagenet_synsets.txt"
    return tuple(path.read_text(encoding="utf-8").split())


def positions(classes: Sequence[str], whose: str) -> list[int]:
    """Return where ``classes`` stand among the 1000.

    Raises UserError for a class that is none of them: the logits of ``whose`` say nothing of it.
    """
    known = {name: number for number, name in enumerate(imagenet_classes())}
    odd = [name for name in classes if name not in known]
    if odd:
        raise UserError(
            f"{whose} knows the 1000 classes of ImageNet, and '{odd[0]}' is none of their folder"
            f" names (such as {imagenet_classes()[0]}); rename the class folders, or use a teacher"
            " of these classes"
        )
    return [known[name] for name in classes]
