"""What sets runs apart from the table's own, in words."""

from __future__ import annotations

from typing import Any

from benchmark.results.assign import Group


def describe(group: Group) -> tuple[str, ...]:
    """Return what sets a group apart from the table's own runs, in words."""
    own = {n: v for n, (v, _) in group.differences.items() if not n.startswith("teacher.")}
    teachers = {
        n.removeprefix("teacher."): v
        for n, (v, _) in group.differences.items()
        if n.startswith("teacher.")
    }
    words = [_words(name, value) for name, value in own.items()]
    if teachers and all(name in own and own[name] == v for name, v in teachers.items()):
        words.append("its teacher likewise")
    else:
        words += [f"its teacher: {_words(name, value)}" for name, value in teachers.items()]
    return tuple(dict.fromkeys(words))


def _words(name: str, value: Any) -> str:
    if name.startswith("dataset"):
        return "data: not the official set"
    if name.startswith("versions."):
        return f"version {value} of {name.removeprefix('versions.')}"
    if name.endswith(".version") and ".options." not in name:
        return f"version {value} of {name.removesuffix('.version')}"
    if name == "teacher":
        return "another teacher, whose run is not here"
    if name == "file":
        return f"your own file {str(value)[:8]}"
    if name in ("key", "weights") and value is not None:
        return f"public checkpoint {str(value)[:8]}"
    return f"{name.replace('.options.', '.')} = {'unset' if value is None else value}"
