"""What git says of this code's repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

_SECONDS = 60


def git(root: Path, *arguments: str) -> str | None:
    """Return what a git command prints in ``root``; None outside a repository or if it fails."""
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    # A difference may show bytes of files that are no UTF-8.
    return done.stdout.decode(errors="replace").strip()


def refusal(root: Path) -> str | None:
    """Return git's reason for not reading the repository in ``root``, None if it does.

    It refuses one that belongs to another user, for instance. None outside a repository too.
    """
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
    except FileNotFoundError:
        return "git is not installed"
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    if done.returncode == 0:
        return None
    said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
    # Warnings may stand before it, such as of a configuration that cannot be read.
    fatal = [line for line in said if line.startswith("fatal: ")]
    return (fatal or said)[0].removeprefix("fatal: ")
