"""Every path that the drawings of the house name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# `benchmark/x.py`, `tables/`, `setup.cfg`: a word in backticks that looks like a path of ours.
PATHS = re.compile(r"`((?:[\w.-]+/)+[\w.*-]*|[\w-]+\.(?:py|cfg|md|toml|yaml)|\.[a-z]+)`")
LINKS = re.compile(r"\]\(([^)#:]+)\)")
# What is made when it is used.
MADE = ("results/", "checkpoints/", "RUNS/", ".venv")


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "README.md"])
def test_every_path_that_is_named_exists(name: str) -> None:
    document = ROOT / name
    text = document.read_text(encoding="utf-8")
    named = set(PATHS.findall(text))
    gone = {
        path
        for path in named
        if not any(list(base.glob(path.rstrip("/"))) for base in (ROOT, ROOT / "benchmark"))
        and not path.startswith(MADE)
    }
    gone |= {link for link in LINKS.findall(text) if not (document.parent / link).exists()}
    assert not gone
    assert named
