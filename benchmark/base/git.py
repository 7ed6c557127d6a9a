"""What git says of this code's repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

_SECONDS = 60


def git(root: Path, *arguments: str) -> str | None:
    """Return what a git command prints in ``root``; None outside a repository or where it fails."""
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    # A difference may show bytes of files that are no UTF-8.
    return done.stdout.decode(errors="replace").strip()
