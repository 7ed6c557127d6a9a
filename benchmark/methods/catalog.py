"""Which methods there are, and what can be known of them without torch."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmark.base import static
from benchmark.base.companion import Companion
from benchmark.base.errors import UserError, unknown
from benchmark.base.plugin_file import forgotten
from benchmark.methods.options import MethodOptions, Planned
from benchmark.models import add_networks, model_info

_HERE = Path(__file__).parent
_plugins: dict[str, Path] = {}
_files: dict[str, Path] = {}


@dataclass(frozen=True)
class MethodInfo:
    """A method as planning sees it.

    ``version`` is the integer in the method's class; a plug-in's is the digest of its file (and
    of the versions of the methods that it extends), as nobody raises a number while
    experimenting. ``overrides_predict``, ``has_update`` and ``takes_turns`` say which of the
    exclusive hooks the class defines or inherits, ``attributes`` its literal attributes.
    """

    name: str
    path: Path
    summary: str
    version: int | str
    needs_teacher: bool
    private_teacher: str | None
    overrides_predict: bool
    has_update: bool
    takes_turns: bool
    attributes: Mapping[str, Any] = field(hash=False)

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

    def fact(self, name: str, options: Mapping[str, Any]) -> Any:
        """Return what the method declares under ``name``, given resolved options.

        That is an attribute of its options, or else of its class, or else the base class's.
        """
        typed = self._typed(options)
        return getattr(typed, name) if hasattr(typed, name) else self.attributes[name]

    def evaluates(self, options: Mapping[str, Any], student: str) -> tuple[str, ...]:
        """Return what it evaluates beside the student, a network of that name."""
        of_stages = self._typed(options).of_stages(model_info(student).stages)
        return (*of_stages, *self.fact("evaluates", options))

    def companions(self, options: Mapping[str, Any]) -> tuple[Companion, ...]:
        """Return the further images of each step that it asks for, given resolved options."""
        return tuple(Companion(*item) for item in self.fact("companions", options))

    def networks(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of networks that it builds, given resolved options."""
        return tuple(self._typed(options).networks)

    def refuse(self, options: Mapping[str, Any], planned: Planned) -> None:
        """Raise UserError if its options do not suit a run."""
        reason = self._typed(options).refuse(planned)
        if reason is not None:
            raise UserError(f"{self.name} {reason}")

    def _typed(self, options: Mapping[str, Any]) -> MethodOptions:
        return self.options_class.model_validate(dict(options))


@cache
def _options_class(path: Path) -> type[MethodOptions]:
    found = static.execute_class(path, "Options")
    if not issubclass(found, MethodOptions):
        raise UserError(f"{path}: class Options must derive from MethodOptions")
    return found


def method_class_name(path: Path) -> str:
    """Return the name of the one Method subclass that a method file defines.

    Where one class of the file extends another it is the last one that counts.
    """
    chains = {
        name: [node.name for _, node in chain]
        for name in static.classes(static.parse(path))
        if (chain := static.lineage(path, name, "Method")) is not None
    }
    extended = {above for chain in chains.values() for above in chain[1:]}
    names = [name for name in chains if name not in extended]
    if len(names) != 1:
        listed = ", ".join(names) or "none"
        raise UserError(
            f"{path} must define exactly one subclass of Method, or of a method's class that it"
            f" imports by name (found: {listed})"
        )
    return names[0]


@cache
def _base_attributes() -> dict[str, Any]:
    """The literal attributes of the base class."""
    tree = static.parse(_HERE / "base.py")
    return static.literal_attributes(static.classes(tree)["Method"])


def _read(path: Path, plugin: bool) -> MethodInfo:
    chain = static.lineage(path, method_class_name(path), "Method")
    assert chain is not None
    _check_forward(path, [node for _, node in chain])
    attributes = _base_attributes()
    for _, node in reversed(chain):
        attributes = {**attributes, **static.literal_attributes(node)}
    own = static.literal_attributes(chain[0][1])
    defined = {name for _, node in chain for name in static.functions(node)}
    doc = (ast.get_docstring(static.parse(path)) or "").strip().splitlines()
    extended = sorted({home.stem for home, _ in chain} - {path.stem})
    return MethodInfo(
        name=path.stem,
        path=path,
        summary=doc[0] if doc else "",
        version=_digest(path, extended) if plugin else int(own.get("version", 1)),
        needs_teacher=bool(attributes["needs_teacher"]),
        private_teacher=attributes["private_teacher"],
        overrides_predict=bool({"predict", "forward"} & defined),
        has_update="update" in defined,
        takes_turns="turns" in defined,
        attributes=attributes,
    )


def _check_forward(path: Path, chain: Sequence[ast.ClassDef]) -> None:
    """Refuse a class that would be asked for one loss and has changed another."""
    changed, asked = (
        next((i for i, node in enumerate(chain) if name in static.functions(node)), len(chain))
        for name in ("loss", "forward")
    )
    if changed < asked < len(chain):
        raise UserError(forward_instead(path.stem, chain[asked].name))


def forward_instead(name: str, above: str) -> str:
    """Say what a method does that changes ``loss`` and extends one that defines ``forward``."""
    return (
        f"{name} changes loss, but {above}, which it extends, gives terms and prediction by"
        " forward: define forward instead"
    )


def _digest(path: Path, extended: Sequence[str]) -> str:
    """Return a plug-in's version: of its file, and of the methods that its class extends."""
    digest = hashlib.sha256(path.read_bytes())
    for name in extended:
        digest.update(f"{name} {method_info(name).version}".encode())
    return digest.hexdigest()[:16]


@cache
def _builtin() -> dict[str, Path]:
    """Every file of this package that holds a class Options is a method."""
    files = [p for p in sorted(_HERE.glob("*.py")) if "\nclass Options(" in p.read_text("utf-8")]
    return {path.stem: path for path in files}


@cache
def _own(path: Path) -> MethodInfo:
    return _read(path, plugin=False)


@cache
def _plugin(path: Path) -> MethodInfo:
    tree = static.parse(path)
    if "Options" not in static.classes(tree) and static.home_of(tree, "Options") is None:
        raise UserError(
            f"{path} defines no class Options, so it is no method, and no function marked @model,"
            " so it is no network"
        )
    info = _read(path, plugin=True)
    _options_class(path)
    return info


def add_plugin(path: Path) -> MethodInfo | None:
    """Register what a user's file defines: networks, and a method that bears the file's name.

    Returns the method, None for a file of networks alone. Raises UserError if the file
    defines neither, or a name is taken.
    """
    path = path.resolve()
    if not path.is_file():
        raise UserError(f"plug-in {path} does not exist")
    if not path.stem.isidentifier():
        raise UserError(f"plug-in {path}: '{path.stem}' is no valid method name")
    if path.stem in _builtin() or _plugins.get(path.stem, path) != path:
        raise UserError(f"plug-in {path}: a method named '{path.stem}' exists already; rename it")
    defined = {*static.classes(static.parse(path))}
    if _files.get(path.stem, path) != path:
        raise UserError(f"plug-in {path}: {_files[path.stem]} has its name already; rename it")
    networks = add_networks(path)
    _files[path.stem] = path
    if networks and "Options" not in defined:
        return None
    info = _plugin(path)
    _plugins[path.stem] = path
    return info


def plugin_files() -> tuple[Path, ...]:
    """Return the files of the user's own that are registered."""
    return tuple(_files.values())


def method_infos() -> dict[str, MethodInfo]:
    """Return all methods by name: the built-in ones, then plug-ins."""
    return {name: method_info(name) for name in (*_builtin(), *_plugins)}


def method_info(name: str, where: str = "") -> MethodInfo:
    """Return one method, reading its file alone; UserError with the nearest guess if unknown."""
    if name in _builtin():
        return _own(_builtin()[name])
    if name in _plugins:
        return _plugin(_plugins[name])
    known = unknown("method", name, (*_builtin(), *_plugins), where)
    raise UserError(f"{known}{forgotten(name, _plugins.values())}")
