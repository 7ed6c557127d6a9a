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
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from benchmark.base import static
from benchmark.base.errors import UserError, unknown
from benchmark.base.plugin_file import file_version, forgotten, load_file

if TYPE_CHECKING:
    from benchmark.models.features import Model

__all__ = ["ModelInfo", "build_model", "model", "model_info", "model_infos"]

Constructor = TypeVar("Constructor", bound=Callable[..., Any])


def model(version: int = 1, stages: int = 3) -> Callable[[Constructor], Constructor]:
    """Mark ``def NAME(num_classes: int) -> Model`` as the network NAME.

    ``version`` is raised whenever the network's numbers change (its initialisation included);
    ``stages`` follow its stem, and it can be cut after each of them but the last (0: it cannot).
    """

    def mark(constructor: Constructor) -> Constructor:
        return constructor

    return mark


@dataclass(frozen=True)
class ModelInfo:
    """A network as planning sees it: its name, the file that defines it, its version and stages.

    ``path``: the file of the user's own, whose digest the version is then.
    """

    name: str
    module: str
    version: int | str
    takes: frozenset[str] = frozenset()  # of drop_path, image_size, norm_updates
    stages: int = 0
    path: Path | None = None


_plugins: dict[str, ModelInfo] = {}


def _marked(path: Path) -> list[ModelInfo]:
    found = []
    for node in static.parse(path).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "model":
                keywords = {k.arg: ast.literal_eval(k.value) for k in decorator.keywords}
                takes = frozenset(argument.arg for argument in node.args.args[1:])
                version, stages = keywords.get("version", 1), keywords.get("stages", 3)
                info = ModelInfo(node.name, path.stem, int(version), takes, int(stages))
                found.append(info)
    return found


def add_networks(path: Path) -> list[ModelInfo]:
    """Register the networks of a user's file, those that ``@model`` marks.

    Raises UserError if one of their names is taken.
    """
    version = file_version(path)
    found = [replace(info, version=version, path=path) for info in _marked(path)]
    for info in found:
        taken = _plugins.get(info.name)
        if info.name in _builtin() or (taken is not None and taken.path != path):
            raise UserError(
                f"plug-in {path}: a network named '{info.name}' exists already; rename it"
            )
    _plugins.update({info.name: info for info in found})
    return found


def model_infos() -> dict[str, ModelInfo]:
    """Return every named network, this project's and then those of plug-ins."""
    return {**_builtin(), **_plugins}


@cache
def _files() -> dict[Path, str]:
    return {path: path.read_text("utf-8") for path in sorted(Path(__file__).parent.glob("*.py"))}


@cache
def _own(name: str) -> ModelInfo | None:
    """Return one of this project's networks; only files that define such a name are parsed."""
    found = (path for path, text in _files().items() if f"\ndef {name}(" in text)
    return next((info for path in found for info in _marked(path) if info.name == name), None)


@cache
def _builtin() -> dict[str, ModelInfo]:
    """This project's networks; two of one name are a programmer's error."""
    infos: dict[str, ModelInfo] = {}
    for path in _files():
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
    """Return one network; ``timm:NAME`` is any network of timm. UserError if there is none.

    A tag of published weights (``timm:resnet18.a1_in1k``) may follow the name.
    """
    bare = name.partition(".")[0]
    if name.startswith("timm:"):
        if not _timm_names():
            raise UserError(f"model '{name}' needs timm, which is not installed")
        if bare.removeprefix("timm:") not in _timm_names():
            raise unknown("timm model", bare.removeprefix("timm:"), _timm_names(), where)
        return ModelInfo(name, "imagenet", 1, frozenset({"drop_path", "image_size"}))
    known = bare if bare.startswith("tv_") else name
    found = _plugins.get(known) or _own(known)
    if found is None:
        loaded = [info.path for info in _plugins.values() if info.path]
        raise UserError(f"{unknown('model', name, model_infos(), where)}{forgotten(name, loaded)}")
    return found


def check_drop_path(name: str, drop_path: float, where: str = "") -> None:
    """Raise UserError if a network is asked for stochastic depth that it does not have."""
    if drop_path and "drop_path" not in model_info(name).takes:
        at = f"{where}: " if where else ""
        raise UserError(f"{at}model '{name}' has no stochastic depth; set recipe.drop_path to 0")


def build_model(
    name: str,
    num_classes: int,
    *,
    drop_path: float = 0.0,
    image_size: int | None = None,
    norm_updates: str = "twice",
) -> Model:
    """Build the network ``name`` with its published initialisation, from torch's current RNG.

    ``drop_path``: the last block's rate of stochastic depth; ``image_size``: the side of its
    images, which networks of a fixed size alone look at; ``norm_updates``: see Recipe. Raises
    UserError for an unknown name, and for settings that the network does not take.
    """
    info = model_info(name)
    check_drop_path(name, drop_path)
    settings = {
        "drop_path": drop_path,
        "image_size": image_size,
        "norm_updates": norm_updates,
    }
    taken = {key: value for key, value in settings.items() if key in info.takes}
    if info.path is not None:
        return _of_plugin(info, num_classes, taken)
    module = importlib.import_module(f"{__name__}.{info.module}")
    if name.startswith("timm:"):
        bare = name.removeprefix("timm:").partition(".")[0]
        built: Model = module.timm_model(bare, num_classes, **taken)
        return built
    constructed: Model = getattr(module, info.name)(num_classes, **taken)
    return constructed


def _of_plugin(info: ModelInfo, num_classes: int, taken: dict[str, Any]) -> Model:
    """Build a network of a user's file; UserError if it is none that can be trained."""
    from benchmark.models.features import Model

    assert info.path is not None
    try:
        built = getattr(load_file(info.path), info.name)(num_classes, **taken)
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{info.path}: {info.name} cannot be built: {type(error).__name__}: {reason}"
        ) from error
    if not isinstance(built, Model):
        raise UserError(
            f"{info.path}: {info.name} returns a {type(built).__name__}, not a network with"
            " features; wrap it (benchmark.models.wrapped.wrap)"
        )
    return built
