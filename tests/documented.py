"""Runs the commands that a page of docs/ shows, as a reader would type them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.cli.command import bench

DOCS = Path(__file__).resolve().parents[1] / "docs"


def run_page(name: str) -> dict[str, str]:
    """Run every ``$ bench`` line of a page's console blocks in the working directory, in order.

    Each must end well. Returns what they printed, by command.
    """
    text = (DOCS / name).read_text(encoding="utf-8")
    printed = {}
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ bench "):
                said = bench(*shlex.split(line.split("  #")[0])[2:])
                assert said.code == 0, f"{line}\n{said.err}"
                printed[line.removeprefix("$ ")] = said.out
    assert printed, f"{name} shows no commands"
    return printed
