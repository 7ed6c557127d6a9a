"""Networks, one function each. Importing the package imports no torch.

``@model`` marks a function of a file in this package as a network's constructor; its name is
the network's name. Names and versions are read from the syntax tree, so that planning a table
needs no torch.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from benchmark.base import static
from benchmark.base.errors import UserError, unknown

if TYPE_CHECKING:
    from benchmark.models.features import Model

__all__ = ["ModelInfo", "build_model", "model", "model_info", "model_infos"]

Constructor = TypeVar("Constructor", bound=Callable[..., Any])


def model(version: int = 1) -> Callable[[Constructor], Constructor]:
    """Mark ``def NAME(num_classes: int) -> Model`` as the network NAME.

    ``version`` is raised whenever the network's numbers change (its initialisation included).
    """

    def mark(constructor: Constructor) -> Constructor:
        return constructor

    return mark


@dataclass(frozen=True)
class ModelInfo:
    """A network as planning sees it: its name, the file that defines it, its version."""

    name: str
    module: str
    version: int


def _marked(path: Path) -> list[ModelInfo]:
    found = []
    for node in static.parse(path).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "model":
                keywords = {k.arg: ast.literal_eval(k.value) for k in decorator.keywords}
                found.append(ModelInfo(node.name, path.stem, int(keywords.get("version", 1))))
    return found


@cache
def model_infos() -> dict[str, ModelInfo]:
    """Return every named network; two of one name are a programmer's error."""
    infos: dict[str, ModelInfo] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        for info in _marked(path):
            assert info.name not in infos, f"two models are named {info.name}"
            infos[info.name] = info
    return infos


@cache
def _timm_names() -> frozenset[str]:
    """Names that timm registers, read from its source: importing timm would import torch."""
    spec = importlib.util.find_spec("timm")
    if spec is None or spec.origin is None:
        return frozenset()
    names = set()
    for path in (Path(spec.origin).parent / "models").glob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        for line, following in itertools.pairwise(lines):
            if line.startswith("@register_model") and following.startswith("def "):
                names.add(following[4:].split("(")[0])
    return frozenset(names)


def model_info(name: str, where: str = "") -> ModelInfo:
    """Return one network; ``timm:NAME`` is any network of timm. UserError where there is none."""
    if name.startswith("timm:"):
        if not _timm_names():
            raise UserError(f"model '{name}' needs timm, which is not installed")
        if name.removeprefix("timm:") not in _timm_names():
            raise unknown("timm model", name.removeprefix("timm:"), _timm_names(), where)
        return ModelInfo(name, "imagenet", 1)
    infos = model_infos()
    if name not in infos:
        raise unknown("model", name, infos, where)
    return infos[name]


def build_model(name: str, num_classes: int) -> Model:
    """Build the network ``name`` with its published initialisation, from torch's current RNG.

    Raises UserError for an unknown name.
    """
    info = model_info(name)
    module = importlib.import_module(f"{__name__}.{info.module}")
    if name.startswith("timm:"):
        built: Model = module.timm_model(name.removeprefix("timm:"), num_classes)
        return built
    constructed: Model = getattr(module, name)(num_classes)
    return constructed
