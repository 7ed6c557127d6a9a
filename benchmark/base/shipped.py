"""Find the files that travel with the code, and the user's own folder of such files.

Tables, profiles, the registry of teachers and the measured costs lie in the repository beside
the package. setup.cfg places them in a wheel as ``benchmark/shipped/``, under the same relative
paths, so one function finds them in a checkout, an editable install, a copy of the code that
jobs run, and an installed wheel.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from benchmark.base.machine import own_folder


@cache
def shipped_root() -> Path:
    """Return the folder that holds ``tables/``, ``slurm/profiles/`` and the rest."""
    package = Path(str(files("benchmark"))).resolve()
    installed = package / "shipped"
    return installed if installed.is_dir() else package.parent


def shipped(path: str) -> Path:
    """Return where a shipped file or folder lies, given its path in the repository."""
    return shipped_root() / path


def code_root() -> Path:
    """Return the folder that holds the package: a checkout, a copy of it, or site-packages."""
    return Path(str(files("benchmark"))).resolve().parent


def is_installed() -> bool:
    """Say whether this code runs from an installed wheel, where no repository lies around it."""
    return shipped_root().name == "shipped"


def user_folder() -> Path | None:
    """Return ``$XDG_CONFIG_HOME/bench`` (``~/.config/bench``); None for a user without a home."""
    base = own_folder("XDG_CONFIG_HOME", "~/.config")
    return None if base is None else base / "bench"
