"""From a table's name to files of figures: the door of this room."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmark.base.errors import UserError, unknown
from benchmark.base.log import say
from benchmark.base.modules import described_modules
from benchmark.figures import kinds
from benchmark.figures.drawing import IMAGES, Drawing, FigureSource
from benchmark.figures.save import Saved, save
from benchmark.figures.style import house_style
from benchmark.planning.own_files import check_given
from benchmark.results.report import made_by, make_report
from benchmark.table.load import load_table
from benchmark.table.own_teachers import OwnTeacher
from benchmark.table.selection import Selection
from benchmark.table.spec import Table


def figure_kinds() -> dict[str, str]:
    """Return the kinds by name, each with what it shows in a line; nothing is imported."""
    return described_modules(kinds.__path__)


def kinds_named(names: Sequence[str], option: str) -> list[str]:
    """Return kinds of figures, each once. Raises UserError for one that does not exist."""
    wanted, known = list(dict.fromkeys(names)), figure_kinds()
    for name in wanted:
        if name not in known:
            raise unknown("kind", name, known, option)
    return wanted


def make_figures(
    table: str,
    names: Sequence[str],
    chosen: Selection | None = None,
    *,
    runs_dir: Path,
    data_dir: Path,
    out: Path,
    images: int = IMAGES,
    protocol: str | None = None,
) -> tuple[Saved, ...]:
    """Draw some kinds of figures of a table and write them below ``out``.

    Raises UserError for an unknown kind, and if no runs are there to draw any of them; a kind
    of several that has nothing to draw yet is said and left out.
    """
    chosen = chosen or Selection()
    wanted = kinds_named(names, "--kind")
    report = make_report(table, chosen, runs_dir=runs_dir, protocol=protocol)
    source = FigureSource(report, data_dir, images, own_teachers(load_table(table), chosen))
    saved: list[Saved] = []
    for name in wanted:
        extra = ["--kind", name, *(["--images", str(images)] if images != IMAGES else [])]
        command = made_by("figures", table, chosen, protocol, extra=extra)
        with house_style():
            mine = [save(drawing, source, command, out) for drawing in drawings(name, source)]
        if not mine:
            say(f"{name}: nothing to draw yet of {source.grid.name} in {runs_dir}")
        saved += mine
    if not saved:
        raise UserError(
            f"no runs of {source.grid.name} in {runs_dir.resolve()} have anything to draw of"
            f" {', '.join(wanted)}"
        )
    return tuple(saved)


def own_teachers(table: Table, chosen: Selection) -> dict[str, OwnTeacher]:
    """Return the files that the user gave for teachers: those of --teacher, then the table's."""
    check_given(table, chosen)
    names = {c.teacher for c in table.columns} | {r.teacher for r in table.rows if r.teacher}
    given = {name: chosen.teachers.get(name) or table.teacher.file_of(name) for name in names}
    return {name: own for name, own in given.items() if own is not None}


def drawings(name: str, source: FigureSource) -> Iterator[Drawing]:
    """Yield the figures of one kind; call it within ``house_style``."""
    module = importlib.import_module(f"{kinds.__name__}.{name.replace('-', '_')}")
    yield from module.draw(source)
