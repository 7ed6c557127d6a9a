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


DRAWINGS = ("docs/architecture.md", "docs/decisions.md", "CONTRIBUTING.md", "README.md")


@pytest.mark.parametrize("name", DRAWINGS)
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


def test_the_walk_along_one_run_visits_each_file_once() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    walk = text.split("## Follow one run")[1].split("\n## ")[0]
    visited = [path for path in PATHS.findall(walk) if path.endswith((".py", ".yaml"))]
    assert len(visited) > 20
    assert sorted(visited) == sorted(set(visited))


def test_the_drawing_names_every_room() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in (ROOT / "benchmark").glob("*/__init__.py")}
    assert {name.rstrip("/") for name in re.findall(r"^\| `(\w+/)`", text, re.MULTILINE)} == rooms
