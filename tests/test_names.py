"""A class name means one thing in the whole package, and a file holds one idea."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import benchmark


def test_no_class_name_stands_twice() -> None:
    root = Path(benchmark.__file__).parent
    places = defaultdict(list)
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(path.relative_to(root).as_posix())
    # Each method names its options so; what a file of methods/ must define is found by name.
    options = places.pop("Options")
    assert all(place.startswith("methods/") for place in options)
    assert len(options) == len(set(options))
    assert not {name: found for name, found in places.items() if len(found) > 1}


def test_no_file_is_longer_than_its_idea() -> None:
    root = Path(benchmark.__file__).parent
    lines = {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8").count("\n")
        for path in root.rglob("*.py")
    }
    assert not {name: number for name, number in lines.items() if number > 400}


def test_every_test_lies_where_it_is_looked_for() -> None:
    """Pytest passes over tests in a file of another name without a word."""
    lost = [
        f"{path.name}: {node.name}"
        for path in sorted(Path(__file__).parent.rglob("*.py"))
        if not path.name.startswith("test_")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert not lost
