"""Which methods there are, and what can be known of them without torch."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmark.base import static
from benchmark.base.errors import UserError, unknown
from benchmark.methods.options import MethodOptions

_HERE = Path(__file__).parent
_plugins: dict[str, Path] = {}


@dataclass(frozen=True)
class MethodInfo:
    """A method as planning sees it.

    ``version`` is the integer in the method's class; a plug-in's is the digest of its file, as
    nobody raises a number while experimenting. ``overrides_predict`` and ``has_update`` say
    which of the exclusive hooks the class defines.
    """

    name: str
    path: Path
    summary: str
    version: int | str
    needs_teacher: bool
    private_teacher: str | None
    overrides_predict: bool
    has_update: bool

    @property
    def options_class(self) -> type[MethodOptions]:
        """The method's typed options, loaded without torch."""
        return _options_class(self.path)

    def resolve(self, given: Mapping[str, Any], where: str = "") -> dict[str, Any]:
        """Return all options as plain JSON values, the defaults filled in.

        Raises UserError for an unknown option (with the nearest guess) or a value of the wrong
        type; ``where`` names the file or flag that holds it.
        """
        options = self.options_class
        for name in given:
            if name not in options.model_fields:
                raise unknown(f"option of {self.name}", name, options.model_fields, where)
        try:
            return options.model_validate(dict(given)).model_dump(mode="json")
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "options"
            raise UserError(
                f"{where + ': ' if where else ''}{self.name}.{field}: {first['msg']}"
                f" (got {first['input']!r})"
            ) from error

    def ce_weight(self, options: Mapping[str, Any]) -> float:
        """Return the weight that the method puts on the cross-entropy, given resolved options.

        Methods may derive it from other options, so it is asked of the options themselves.
        """
        return float(getattr(self._typed(options), "ce_weight", 1.0))

    def has_gradient_rule(self, options: Mapping[str, Any]) -> bool:
        """Whether the method replaces the optimiser step, given resolved options.

        Where it depends on the options, they have an attribute of that name.
        """
        return bool(getattr(self._typed(options), "has_gradient_rule", self.has_update))

    def clips_gradients(self, options: Mapping[str, Any]) -> bool:
        """Whether that step clips gradients itself, given resolved options."""
        return bool(getattr(self._typed(options), "clips_gradients", False))

    def _typed(self, options: Mapping[str, Any]) -> MethodOptions:
        return self.options_class.model_validate(dict(options))


@cache
def _options_class(path: Path) -> type[MethodOptions]:
    found = static.execute_class(path, "Options")
    if not issubclass(found, MethodOptions):
        raise UserError(f"{path}: class Options must derive from MethodOptions")
    return found


def method_class_name(path: Path) -> str:
    """Return the name of the one Method subclass that a method file defines."""
    names = [
        name
        for name, node in static.classes(static.parse(path)).items()
        if any("Method" in ast.unparse(base) for base in node.bases) and name != "Options"
    ]
    if len(names) != 1:
        listed = ", ".join(names) or "none"
        raise UserError(f"{path} must define exactly one subclass of Method (found: {listed})")
    return names[0]


def _read(path: Path, plugin: bool) -> MethodInfo:
    tree = static.parse(path)
    node = static.classes(tree)[method_class_name(path)]
    attributes = static.literal_attributes(node)
    defined = static.functions(node)
    doc = (ast.get_docstring(tree) or "").strip().splitlines()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return MethodInfo(
        name=path.stem,
        path=path,
        summary=doc[0] if doc else "",
        version=digest if plugin else int(attributes.get("version", 1)),
        needs_teacher=bool(attributes.get("needs_teacher", True)),
        private_teacher=attributes.get("private_teacher"),
        overrides_predict="predict" in defined,
        has_update="update" in defined,
    )


@cache
def _builtin() -> dict[str, MethodInfo]:
    """Every file of this package that holds a class Options is a method."""
    files = [p for p in sorted(_HERE.glob("*.py")) if "\nclass Options(" in p.read_text("utf-8")]
    return {path.stem: _read(path, plugin=False) for path in files}


@cache
def _plugin(path: Path) -> MethodInfo:
    if "Options" not in static.classes(static.parse(path)):
        raise UserError(f"{path} defines no class Options, so it is no method")
    info = _read(path, plugin=True)
    _options_class(path)
    return info


def add_plugin(path: Path) -> MethodInfo:
    """Register a method from a user's file; its name is the file's name.

    Raises UserError where the file is no method or its name is taken.
    """
    path = path.resolve()
    if not path.is_file():
        raise UserError(f"plug-in {path} does not exist")
    if not path.stem.isidentifier():
        raise UserError(f"plug-in {path}: '{path.stem}' is no valid method name")
    if path.stem in _builtin() or _plugins.get(path.stem, path) != path:
        raise UserError(f"plug-in {path}: a method named '{path.stem}' exists already; rename it")
    info = _plugin(path)
    _plugins[path.stem] = path
    return info


def method_infos() -> dict[str, MethodInfo]:
    """Return all methods by name: the built-in ones, then plug-ins."""
    return {**_builtin(), **{name: _plugin(path) for name, path in _plugins.items()}}


def method_info(name: str, where: str = "") -> MethodInfo:
    """Return one method; UserError with the nearest guess where there is none."""
    infos = method_infos()
    if name not in infos:
        raise unknown("method", name, infos, where)
    return infos[name]
