"""What a user selects and changes on the command line: --only, --seeds, --set. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmark.base.errors import UserError, nearest, unknown
from benchmark.base.yamlfile import parse_yaml
from benchmark.table.own_teachers import OwnTeacher, parse_teachers
from benchmark.table.recipe import Recipe

ONLY_KEYS = ("row", "column", "teacher", "student", "method", "uses", "seed")


@dataclass(frozen=True)
class Only:
    """One --only: ``key=value``, or ``key!=value`` which excludes."""

    key: str
    value: str
    excludes: bool


@dataclass(frozen=True)
class Selection:
    """Which slots and seeds are meant, and what is changed in them.

    ``named_recipe`` replaces the table's; ``recipe``: fields to override; ``options``: by
    (method, option) the values to sweep; ``students``: by recipe field, for students alone.
    ``teachers``: the user's own files, by network.
    """

    only: tuple[Only, ...] = ()
    seeds: tuple[int, ...] | None = None
    named_recipe: str | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[tuple[str, str], tuple[Any, ...]] = field(default_factory=dict)
    students: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    teachers: Mapping[str, OwnTeacher] = field(default_factory=dict)


def parse_selection(
    only: Iterable[str] = (),
    seeds: str | None = None,
    sets: Iterable[str] = (),
    teachers: Iterable[str] = (),
) -> Selection:
    """Read the command line's strings; UserError for a malformed one."""
    named: str | None = None
    recipe: dict[str, Any] = {}
    options: dict[tuple[str, str], tuple[Any, ...]] = {}
    students: dict[str, tuple[Any, ...]] = {}
    for text in sets:
        name, separator, value = text.partition("=")
        parts = name.strip().split(".")
        if not separator or not value:
            raise UserError(
                f"--set {text}: expected recipe=NAME, recipe.FIELD=VALUE or method.NAME.OPTION=A,B"
            )
        if parts in (["recipe"], ["recipe", "from"]):
            named = value.strip()
        elif parts[:2] == ["student", "recipe"] and len(parts) > 2:
            students[".".join(parts[2:])] = _of_recipe(parts[2:], value, text)
        elif parts[0] == "recipe" and len(values := _of_recipe(parts[1:], value, text)) > 1:
            students[".".join(parts[1:])] = values  # a sweep is the students': one teacher for all
        elif parts[0] == "recipe":
            (recipe[".".join(parts[1:])],) = values
        elif parts[0] == "method" and len(parts) == 3:
            options[parts[1], parts[2]] = _values(value, text)
        else:
            raise unknown(
                "name",
                name,
                ["recipe", "recipe.FIELD", "student.recipe.FIELD", "method.NAME.OPTION"],
                "--set",
            )
    return Selection(
        only=tuple(_parse_only(text) for text in only),
        seeds=None if seeds is None else parse_seeds(seeds),
        named_recipe=named,
        recipe=recipe,
        options=options,
        students=students,
        teachers=parse_teachers(teachers),
    )


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds of ``0-4``, ``3`` or ``0,2,5-7``, in order and without repeats."""
    seeds: dict[int, None] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if not match:
            raise UserError(f"--seeds {text}: '{part}' is neither a seed nor a range such as 0-4")
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if last < first:
            raise UserError(
                f"--seeds {text}: the range {first}-{last} is empty; did you mean {last}-{first}?"
            )
        if last - first >= 100_000:
            raise UserError(f"--seeds {text}: more than 100,000 seeds")
        seeds.update(dict.fromkeys(range(first, last + 1)))
    return tuple(seeds)


def _parse_only(text: str) -> Only:
    match = re.fullmatch(r"\s*(\w+)\s*(!?=)\s*(.+?)\s*", text)
    if not match:
        raise UserError(f"--only {text}: expected KEY=VALUE or KEY!=VALUE, as in student=resnet20")
    key, operator, value = match.groups()
    if key not in ONLY_KEYS:
        raise unknown("key", key, ONLY_KEYS, "--only")
    return Only(key, value, operator == "!=")


def _value(text: str, where: str) -> Any:
    return parse_yaml(text, f"--set {where}")


def _of_recipe(field: list[str], text: str, where: str) -> tuple[Any, ...]:
    values = _values(text, where)
    if len(values) > 1 and field[0] in Recipe.unhashed:
        return (values,)  # what moves no number cannot be swept: all of them at once
    return values


def _values(text: str, where: str) -> tuple[Any, ...]:
    # A comma separates the values of a sweep, except inside brackets.
    if text.startswith(("[", "{")):
        return (_value(text, where),)
    return tuple(_value(part, where) for part in text.split(","))


def accepts(only: Iterable[Only], values: Mapping[str, Iterable[str]]) -> bool:
    """Tell whether something with these values per key is selected.

    The same key given twice means either; different keys must all agree; exclusions always do.
    """
    wanted: dict[str, set[str]] = {}
    for item in only:
        if item.key not in values:
            continue
        has = item.value in set(values[item.key])
        if item.excludes and has:
            return False
        if not item.excludes:
            wanted.setdefault(item.key, set()).add(item.value)
    return all(names & set(values[key]) for key, names in wanted.items())


def unknown_values(only: Iterable[Only], seen: Mapping[str, Iterable[str]]) -> list[Only]:
    """Return what names nothing at all: a misspelling, even where something else matches.

    ``seen``: by key, every value that the table has.
    """
    return [item for item in only if item.value not in set(seen.get(item.key, ()))]


def nothing_matches(only: Iterable[Only], seen: Mapping[str, Iterable[str]]) -> UserError:
    """Return the error for a selection without a match, with the nearest guesses."""
    items = list(only)
    for item in unknown_values(items, seen):
        valid = sorted(set(seen.get(item.key, ())))
        hint = nearest(item.value, valid, 0.4)
        sign = "!=" if item.excludes else "="
        return UserError(
            f"--only {item.key}{sign}{item.value} matches nothing{hint}"
            f" (valid: {', '.join(valid) or 'none'})"
        )
    if not items:
        return UserError("the table has no rows or no columns")
    asked = " ".join(f"--only {i.key}{'!=' if i.excludes else '='}{i.value}" for i in items)
    return UserError(f"{asked} match nothing together")
