"""Pages to files: only what changed is written, and an open page can tell."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.base.files import make_directory, replacing
from benchmark.site.rendering import HERE

ASSETS = ("site.css", "site.js", "tablesort.min.js", "tablesort.LICENCE.txt")
STAMP = "assets/stamp.js"


@dataclass
class Publisher:
    """Writes the files of one report below ``out``; ``digests`` are those of what lies there."""

    out: Path
    digests: dict[str, str] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)

    def put(self, name: str, content: str | bytes) -> None:
        """Write a file unless it is there with this content. UserError if it cannot be."""
        data = content.encode() if isinstance(content, str) else content
        digest = hashlib.sha256(data).hexdigest()
        self.kept.add(name)
        path = self.out / name
        if self.digests.get(name) == digest and path.exists():
            return
        try:
            if name not in self.digests and path.is_file() and path.read_bytes() == data:
                self.digests[name] = digest
                return
            make_directory(path.parent)
            _replace(path, data)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error
        self.digests[name] = digest

    def assets(self) -> None:
        """Write the style sheet and the scripts."""
        for name in ASSETS:
            self.put(f"assets/{name}", (HERE / "assets" / name).read_bytes())

    def stamp(self, follow: bool) -> None:
        """Say what state the report is in, and whether it may still change."""
        told = json.dumps(sorted((k, v) for k, v in self.digests.items() if k != STAMP))
        state = hashlib.sha256(told.encode()).hexdigest()[:16]
        data = json.dumps({"state": state, "follow": follow})
        self.put(STAMP, f"window.benchStamp({data});\n")

    def sweep(self) -> None:
        """Remove pages of runs and tables that are no longer part of the report."""
        for folder in ("runs", "tables"):
            for path in (self.out / folder).glob("*.html"):
                name = f"{folder}/{path.name}"
                if name not in self.kept:
                    path.unlink(missing_ok=True)
                    self.digests.pop(name, None)
        self.kept.clear()


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that a browser reads the old page or the new one.

    Not fsynced, unlike what training writes: a thousand pages would wait for the disk a thousand
    times, and a report that a crash damages is simply written again.
    """
    with replacing(path, durable=False) as file:
        file.write(data)
