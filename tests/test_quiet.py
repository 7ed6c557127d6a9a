"""The library returns values and logs; only the command line prints."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import benchmark

PACKAGE = Path(benchmark.__file__).parent
STREAMS = {"stdout", "stderr", "stdin", "__stdout__", "__stderr__"}


def loud(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that print, or that name a standard stream.

    What stands behind ``if __name__ == "__main__"`` answers the program that started it.
    """
    guarded = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in guarded:
            continue
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in ("print", "input", "pprint"):
                yield node.lineno
            if any(key.arg == "stderr" and _is_true(key.value) for key in node.keywords):
                yield node.lineno  # a rich Console on standard error
        elif isinstance(node, ast.Attribute):
            if node.attr in STREAMS and ast.unparse(node.value) == "sys":
                yield node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module == "sys":
            yield from (node.lineno for alias in node.names if alias.name in STREAMS)


def _is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


@pytest.mark.slow
def test_nothing_outside_the_command_line_prints() -> None:
    found = [
        f"{path.relative_to(PACKAGE.parent)}:{line}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] != "cli"
        for line in loud(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found


def test_what_prints_is_seen() -> None:
    code = "print(1)\nimport sys\nsys.stderr.write('')\nConsole(stderr=True)\nprinted = 1\n"
    code += "if __name__ == '__main__':\n    print(1)\n"
    assert sorted(loud(ast.parse(code))) == [1, 3, 4]
