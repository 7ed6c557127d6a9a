"""What a cell is set against: the published value, or if a table has none, its own student.

Differences are in points as printed, ours - theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from benchmark.results.claims import compare_cells
from benchmark.results.found import Verdict
from benchmark.results.grid import CellKey, Grid
from benchmark.results.known import fill_in
from benchmark.results.render.markdown import SYMBOLS


class Compared(NamedTuple):
    """A difference with its 95 % interval (None without noise that is known), and its verdict.

    ``override``: the runs have other options or another recipe than the table's own.
    """

    delta: float
    low: float | None
    high: float | None
    verdict: Verdict | None
    override: bool

    @property
    def symbol(self) -> str:
        """The verdict as one character, empty if nothing is published."""
        return SYMBOLS.get(self.verdict, "") if self.verdict else ""


def reference_words(grid: Grid) -> str:
    """Return what :func:`compare_all` sets cells against, in words."""
    if grid.has_published:
        return "ours \N{MINUS SIGN} published"
    student = _student(grid)
    return f"gain over {student}" if student else "nothing to compare with"


def compare_all(grid: Grid) -> Mapping[CellKey, Compared]:
    """Return the differences of all cells that have a value and something to compare it with.

    If nothing is published it is the row of the plain student: seeds that both have are
    paired, and a diverged one counts as chance, as in claims.
    """
    if grid.has_published:
        return {
            key: Compared(first.delta, first.low, first.high, cell.verdict, bool(cell.overrides))
            for key, cell in grid.ordered
            for first in cell.comparisons[:1]
        }
    student = _student(grid)
    if student is None:
        return {}
    priors = fill_in(grid).priors
    methods = {row.name for row in grid.rows if row.kind == "method"}
    found = {}
    for key, cell in grid.ordered:
        base = grid.cell(student, *key[1:])
        if base is None or not base.values or not cell.values or key[0] not in methods:
            continue
        gain = compare_cells(cell, base, priors[key], grid.at_chance(key[2]))
        ends = float(gain.low), float(gain.high)
        found[key] = Compared(float(gain.delta), *ends, None, bool(cell.overrides))
    return found


def _student(grid: Grid) -> str | None:
    return next((row.name for row in grid.rows if row.kind == "student"), None)
