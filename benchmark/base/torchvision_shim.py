"""Make torchvision importable beside a torch that its compiled operators do not fit.

torchvision's wheels link CUDA libraries. On a CPU-only torch their extension does not load, so
the operators that ``import torchvision`` wants to describe are unknown and the import raises
"operator torchvision::nms does not exist"; timm imports torchvision and falls with it. Two
declarations (names and argument types, no code) are enough for the import to pass. Networks,
transforms and datasets then work; ``torchvision.ops.nms`` and the compiled image decoders, which
this project does not use, do not. If the extension loads, as on any ordinary installation,
nothing is declared.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_OPERATORS = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
# Declarations live as long as the object that made them.
_declared: list[torch.library.Library] = []


@cache
def make_torchvision_importable() -> bool:
    """Call before the first import of torchvision or timm; True where operators were declared.

    Does nothing where torchvision is absent, imported already, or has working operators.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or "torchvision" in sys.modules:
        return False
    if _extension_loads(Path(spec.origin).parent):
        return False
    import torch

    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in _OPERATORS:
        library.define(name + _SCHEMA)  # type: ignore[no-untyped-call]
    _declared.append(library)
    return True


def _extension_loads(folder: Path) -> bool:
    import torch

    for path in sorted([*folder.glob("_C*.so"), *folder.glob("_C*.pyd")]):
        try:
            torch.ops.load_library(str(path))  # type: ignore[no-untyped-call]
        except OSError:
            continue
        return True
    return False
