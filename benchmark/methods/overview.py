"""The methods in words: what each does, and its options with their defaults. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from benchmark.methods.catalog import MethodInfo, method_info, method_infos


def chosen(names: Sequence[str]) -> list[MethodInfo]:
    """Return the named methods, or all of them; UserError for an unknown one."""
    return [method_info(name) for name in names] if names else list(method_infos().values())


def overview_text(infos: Iterable[MethodInfo]) -> str:
    """Return a paragraph a method: name, version, summary, then an option a line."""
    return "\n\n".join("\n".join([_title(info), *_option_lines(info)]) for info in infos)


def _title(info: MethodInfo) -> str:
    traits = [] if info.needs_teacher else ["no teacher"]
    traits += ["own prediction"] if info.overrides_predict else []
    traits += ["gradient rule"] if info.has_update else []
    traits += ["turns of its own"] if info.takes_turns else []
    traits += [] if info.attributes["uses_images"] else ["no images"]
    traits += ["compares a batch's images"] if info.attributes["relational"] else []
    traits += ["memory of images"] if info.attributes["keeps_memory"] else []
    suffix = f" [{', '.join(traits)}]" if traits else ""
    return f"{info.name} (version {info.version}){suffix}\n  {info.summary}"


def _option_lines(info: MethodInfo) -> list[str]:
    fields = info.options_class.model_fields
    defaults = {name: f"{name} = {_default(field)}" for name, field in fields.items()}
    width = max((len(text) for text in defaults.values()), default=0)
    return [
        f"    {defaults[name]:{width}}  {field.description or ''}{_choices(field)}"
        for name, field in fields.items()
    ]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(must be given)"
    return _shown(field.get_default(call_default_factory=True))


def _choices(field: FieldInfo) -> str:
    kinds = [field.annotation, *get_args(field.annotation)]
    values = [value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)]
    return f" ({', '.join(map(_shown, values))})" if values else ""


def _shown(value: Any) -> str:
    return (
        "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def option_schemas(info: MethodInfo) -> dict[str, Any]:
    """Return the options by name as JSON schemas: default, type or choices, limits, description."""
    properties = info.options_class.model_json_schema().get("properties", {})
    return {
        name: {key: value for key, value in schema.items() if key != "title"}
        for name, schema in properties.items()
    }
