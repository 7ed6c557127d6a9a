"""What lies in a package of one file a thing: names and first lines, without importing any."""

from __future__ import annotations

import ast
import pkgutil
from collections.abc import Iterable
from pathlib import Path


def described_modules(paths: Iterable[str]) -> dict[str, str]:
    """Return a package's files by name, with dashes for underscores, and each one's first line.

    ``paths``: the package's ``__path__``.
    """
    found = {}
    for folder in map(Path, paths):
        for module in pkgutil.iter_modules([str(folder)]):
            text = (folder / f"{module.name}.py").read_text(encoding="utf-8")
            said = ast.get_docstring(ast.parse(text)) or ""
            found[module.name.replace("_", "-")] = said.partition("\n")[0].rstrip(".")
    return dict(sorted(found.items()))
