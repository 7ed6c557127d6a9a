"""Every message that docs/troubleshooting.md quotes is one that the code can say."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = re.findall(r"^### `(.*)`$", TEXT, re.MULTILINE)


@cache
def texts() -> tuple[str, ...]:
    """The constant parts of all strings of the package, neighbours joined as Python does."""
    found = set()
    for path in (ROOT / "benchmark").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return tuple(found)


def test_there_is_a_section_for_each_message() -> None:
    assert len(MESSAGES) > 25
    assert len(MESSAGES) == TEXT.count("### ") == len(set(MESSAGES))


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_occurs_in_the_code(message: str) -> None:
    fixed = [part for part in message.split("...") if len(part.strip(" ;:,()")) > 1]
    assert fixed, message
    for part in fixed:
        assert any(part in text for text in texts()), f"{part!r} of {message!r}"
