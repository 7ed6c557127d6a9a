"""Read YAML files strictly: duplicate keys, anchors and wrong types are errors with a place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from benchmark.base.errors import UserError, unknown
from benchmark.base.files import read_bytes

ModelT = TypeVar("ModelT", bound=BaseModel)

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _StrictLoader(_Base):  # type: ignore[misc]
    """YAML 1.1 without anchors, with unique keys; 5e-4 is a number and `on` a string."""


_LONGEST = 4_000_000  # characters; the longest table has a fiftieth of it
_DEEPEST = 100  # the deepest has ten
_BRACKETS = 1000
# A line that is deep by itself: indented far, or many items that each begin the next.
_NESTED = re.compile(r" {100}| *(?:[-?:] +){50}")


def _mapping(loader: Any, node: yaml.MappingNode) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float | bool | None):
            raise yaml.constructor.ConstructorError(
                None, None, "a key must be a name or a number", key_node.start_mark
            )
        if key in found:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key '{key}' stands twice", key_node.start_mark
            )
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
# YAML 1.1 reads on, off, yes and no as booleans, even as keys; here only true and false are.
_BOOL = "tag:yaml.org,2002:bool"
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
    for first, resolvers in _StrictLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(_BOOL, re.compile(r"(true|True|false|False)$"), list("tTfF"))
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def load_yaml(path: Path) -> Any:
    """Return the content of a YAML file; UserError names the file, line and what is wrong."""
    try:
        return parse_yaml(read_bytes(path).decode("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def parse_yaml(text: str, where: str) -> Any:
    """Return the value of a YAML text; UserError starts with ``where``."""
    try:
        _refuse_deep(text, where)
        _refuse_anchors(text)
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{where}, line {mark.line + 1}" if mark else where
        raise UserError(f"{place}: {error.problem}") from error
    except UserError:
        raise
    except RecursionError as error:
        raise UserError(f"{where}: nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{where}: {' '.join(str(error).split())}") from error


def _refuse_deep(text: str, where: str) -> None:
    """Refuse what no table is, before the parser, which follows any depth until it ends."""
    if len(text) > _LONGEST:
        raise UserError(f"{where} has {len(text):,} characters: it is not a file of this project")
    # Upper bounds of the depth, of brackets, of indentation, and of several in one line.
    brackets = text.count("[") + text.count("{")
    lines = (line for line in text.splitlines() if len(line) > _DEEPEST)
    if brackets <= _BRACKETS and not any(map(_NESTED.match, lines)):
        return
    depth = 0
    for event in yaml.parse(text, Loader=_Base):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            mark: Any = event.start_mark
            raise UserError(f"{where}, line {mark.line + 1}: nested too deeply")


def _refuse_anchors(text: str) -> None:
    if "&" not in text:
        return
    for event in yaml.parse(text, Loader=_Base):
        if getattr(event, "anchor", None):
            mark: Any = event.start_mark
            raise yaml.constructor.ConstructorError(
                None, None, "anchors and aliases are not allowed", mark
            )


def validate(model: type[ModelT], data: Any, where: str) -> ModelT:
    """Build ``model`` from plain data; UserError is one line with the nearest guess for a key."""
    if not isinstance(data, dict):
        raise UserError(f"{where}: expected a mapping, got {type(data).__name__}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _readable(error, model, where) from error


def _readable(error: ValidationError, model: type[BaseModel], where: str) -> UserError:
    # One line, the first problem: an unknown key before anything that it may have caused.
    problems = sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    first = problems[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        parent = _at(model, first["loc"][:-1])
        fields = [f.alias or n for n, f in parent.model_fields.items()] if parent else []
        return unknown("key", str(first["loc"][-1]), fields, f"{where} ({place})")
    message = first["msg"].removeprefix("Value error, ")
    shown = repr(first["input"])
    got = f" (got {shown})" if first["type"] != "missing" and len(shown) < 80 else ""
    return UserError(f"{where}: {place + ': ' if place else ''}{message}{got}")


def _at(model: type[BaseModel], path: tuple[int | str, ...]) -> type[BaseModel] | None:
    """Return the model that stands at a path of field names and indices, if it can be told."""
    current: type[BaseModel] | None = model
    parts = iter(path)
    for part in parts:
        if isinstance(part, int) or current is None or part not in current.model_fields:
            continue
        field = current.model_fields[part]
        models = list(_models_in(field.annotation))
        if isinstance(field.discriminator, str):
            kind = next(parts, None)  # the next part is the chosen one's
            models = [m for m in models if _is_kind(m, field.discriminator, kind)]
        current = models[0] if models else None
    return current


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)


def _is_kind(model: type[BaseModel], discriminator: str, kind: int | str | None) -> bool:
    return kind in get_args(model.model_fields[discriminator].annotation)
