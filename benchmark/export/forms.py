"""Whether the table's files in a bundle are those that its runs give, byte by byte."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark.base.errors import UserError
from benchmark.export import manifest
from benchmark.export.bundle import write_results
from benchmark.results.report import Report


def unlike_forms(folder: Path, found: dict[str, Any], report: Report) -> Iterator[str]:
    """Yield the files below results/ that ``report`` would write otherwise, and odd ones.

    ``found``: the bundle's manifest, of which the command and version are taken that stand in them.
    """
    command = str(found.get("made_by")).replace("bench bundle", "bench collect", 1)
    grid = dataclasses.replace(report.grid, made_by=command)
    with tempfile.TemporaryDirectory(prefix=".audit-") as place:
        write_results(dataclasses.replace(report, grid=grid), Path(place))
        ours = {path.name: path.read_bytes() for path in Path(place).iterdir()}
    theirs = {name for name in manifest.files_of(folder) if name.startswith("results/")}
    for name in sorted(theirs | {f"results/{name}" for name in ours}):
        try:
            same = manifest.content_of(folder, name) == ours.get(name.removeprefix("results/"))
        except UserError:
            same = False
        if not same:
            yield f"{name} is not what its runs give"
