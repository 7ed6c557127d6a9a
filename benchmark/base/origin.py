"""Which code this is: a commit if git tells, and always a digest of the package's own files."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from typing import Any

from benchmark.base.git import git, refusal
from benchmark.base.log import say
from benchmark.base.shipped import code_root, is_installed


@cache
def code_version() -> dict[str, Any]:
    """Return ``commit``, ``dirty`` (a digest of what differs from it) and ``code``.

    ``code`` is a digest of the package's Python files, so that a result of an installed wheel,
    or of a checkout that git will not read, still says which code made it. A copy of the code
    that was taken at submission says its commit through BENCH_COMMIT and BENCH_DIRTY.
    """
    code = code_digest()
    if "BENCH_COMMIT" in os.environ:
        commit, dirty = os.environ["BENCH_COMMIT"] or None, os.environ.get("BENCH_DIRTY") or None
        return {"commit": commit, "dirty": dirty, "code": code}
    root = code_root()
    commit = git(root, "rev-parse", "HEAD")
    changes = git(root, "diff", "HEAD") if commit else None
    dirty = hashlib.sha256(changes.encode()).hexdigest()[:12] if changes else None
    if commit is None and not is_installed():
        say(no_commit() or f"{root} is no git repository: results hold a digest of the code")
    return {"commit": commit, "dirty": dirty, "code": code}


def no_commit() -> str | None:
    """Return why results have no commit although the code lies in a repository, else None."""
    why = refusal(code_root())
    return why and f"git does not read {code_root()} ({why}): results hold a digest of the code"


@cache
def code_digest() -> str:
    """Return a digest of the names and contents of the package's Python files."""
    package = code_root() / "benchmark"
    found = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        found.update(f"{path.relative_to(package)}\0{len(content)}\0".encode() + content)
    return f"sha256:{found.hexdigest()[:16]}"
