"""What git is asked for, in a real repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmark.base.git import git


def test_a_difference_may_hold_any_bytes(tmp_path: Path) -> None:
    assert git(tmp_path, "rev-parse", "HEAD") is None, "no repository"
    who = ("-c", "user.name=x", "-c", "user.email=x@y.example")
    (tmp_path / "file.py").write_bytes(b"before\n")
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    assert len(git(tmp_path, "rev-parse", "HEAD") or "") == 40
    (tmp_path / "file.py").write_bytes(b"caf\xe9\n")
    assert (git(tmp_path, "diff", "HEAD") or "").endswith("-before\n+caf\ufffd")
    assert git(tmp_path, "no-such-command") is None
