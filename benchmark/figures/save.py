"""One figure as files: PDF, PNG, its data as CSV, and where it comes from as JSON.

The same runs give the same bytes: no dates, no paths, fixed identifiers.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.base.errors import UserError
from benchmark.base.files import make_directory, replacing
from benchmark.figures.drawing import Drawing, FigureSource
from benchmark.figures.style import DOTS_PER_INCH
from benchmark.results.grid import Grid

SCHEMA = 1


@dataclass(frozen=True)
class Saved:
    """A written figure: its title, its four files, and the picture's size in pixels."""

    name: str
    title: str
    pdf: Path
    png: Path
    csv: Path
    json: Path
    size: tuple[int, int]

    @property
    def paths(self) -> tuple[Path, ...]:
        """All its files."""
        return self.pdf, self.png, self.csv, self.json


def save(drawing: Drawing, source: FigureSource, command: str, out: Path) -> Saved:
    """Write one figure below ``out``. Raises UserError if a file cannot be written."""
    make_directory(out)
    path = out / drawing.name
    pdf, png, csv, beside = (
        path.with_name(f"{drawing.name}.{kind}") for kind in ("pdf", "png", "csv", "json")
    )
    found = Saved(drawing.name, drawing.title, pdf, png, csv, beside, _pixels(drawing))
    told = origin(drawing, source, command)
    try:
        _write(found.pdf, _image(drawing, "pdf", _pdf_words(drawing, source.grid, told)))
        _write(found.png, _image(drawing, "png", _png_words(drawing, source.grid, told)))
        _write(found.csv, _rows(drawing).encode())
        _write(found.json, (json.dumps(told, indent=1, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise UserError(f"cannot write {error.filename or path}: {error.strerror}") from error
    return found


def origin(drawing: Drawing, source: FigureSource, command: str) -> dict[str, Any]:
    """Return what a figure was made of: the command, the runs, and the commits of their code."""
    readings = source.readings
    return {
        "schema": SCHEMA,
        "figure": drawing.name,
        "title": drawing.title,
        "table": source.grid.name,
        "source": source.grid.source,
        "made_by": command,
        "commits": sorted({c for r in drawing.runs if r in readings and (c := readings[r].commit)}),
        "runs": list(drawing.runs),
    }


def _pixels(drawing: Drawing) -> tuple[int, int]:
    width, height = drawing.figure.get_size_inches() * DOTS_PER_INCH
    return round(width), round(height)


def _image(drawing: Drawing, kind: str, words: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    drawing.figure.savefig(file, format=kind, dpi=DOTS_PER_INCH, metadata=words)
    return file.getvalue()


def _pdf_words(drawing: Drawing, grid: Grid, told: dict[str, Any]) -> dict[str, Any]:
    return {
        "Title": drawing.title,
        "Subject": f"{grid.title}. {grid.source}",
        "Creator": told["made_by"],
        "Producer": f"matplotlib; commits {' '.join(told['commits']) or 'unknown'}",
        "Keywords": " ".join(told["runs"]),
        "CreationDate": None,
    }


def _png_words(drawing: Drawing, grid: Grid, told: dict[str, Any]) -> dict[str, Any]:
    return {
        "Title": drawing.title,
        "Description": f"{grid.title}. {grid.source}",
        "Software": told["made_by"],
        "Source": " ".join(told["runs"]),
        "Comment": f"commits {' '.join(told['commits']) or 'unknown'}",
    }


def _rows(drawing: Drawing) -> str:
    import pandas as pd

    return str(pd.DataFrame(list(drawing.data)).to_csv(index=False, float_format="%.10g"))


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        file.write(content)
