"""Every reference case is checked by some test module, and no module claims one that is not."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.methods import golden


def claimed(variable: str = "GOLDEN") -> set[str]:
    """Return the union of all literals ``GOLDEN = (...)`` under tests/, without importing."""
    names: set[str] = set()
    for path in Path(__file__).parents[1].rglob("test_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == variable:
                names |= set(ast.literal_eval(node.value))
    return names


def test_every_golden_case_is_claimed() -> None:
    assert golden.case_names() - claimed() == set()


def test_no_claim_without_a_golden_case() -> None:
    assert claimed() - golden.case_names() == set()
