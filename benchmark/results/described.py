"""What sets runs apart from the table's own, in words."""

from __future__ import annotations

from typing import Any

from benchmark.results.assign import Group

# Where and how fast, not what: what differs in these alone is compared all the same.
_SAME = ("device", "threads", "deterministic", "channels_last", "eval_batch", "keep_drops")


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


def is_apart(group: Group) -> bool:
    """Say whether runs were not trained as what was published: data, recipe, a teacher's own file.

    Options of methods and versions of code are overrides, too, but of what is compared.
    """
    if group.file is not None and group.file.own:
        return True
    for name in group.differences:
        part, _, field = name.removeprefix("teacher.").partition(".")
        if part in ("dataset", "file", "key", "weights"):
            return True
        if part == "recipe" and field.partition(".")[0] not in _SAME:
            return True
    return False
