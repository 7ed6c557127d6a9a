"""What git is asked for, in a real repository."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from benchmark.base.git import git, refusal


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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_repository_of_somebody_else_says_why_it_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refusal(tmp_path) is None
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.delenv("SUDO_UID", raising=False)
    subprocess.run(["git", "-C", str(tmp_path), "init", "-q"], check=True)
    for place in (tmp_path, tmp_path / ".git"):
        os.chown(place, 54321, 54321)
    assert "dubious ownership" in (refusal(tmp_path) or "")
