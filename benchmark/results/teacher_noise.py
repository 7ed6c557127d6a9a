"""How much teachers vary, if ours is not the paper's.

Two teachers of one network, trained alike, are not the same, and their students differ with them.
A difference ours - published then has ``tau**2 (1/T + 1)`` more variance: T teachers of ours, one
of theirs. With three teachers and more, each of its own seed (``seed: same``), the table itself
tells tau: in a column the rows share a teacher per seed, so that what seeds have in common
beyond the rows' own scatter is the teachers' (a two-way analysis of rows and seeds, pooled over
columns). Otherwise it is taken as half of the student's seed noise, worth 2 degrees of freedom:
a guess, and said. What rows of one column differ by is free of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from benchmark.results.grid import Grid, GridCell
from benchmark.results.priors import TAU_DF, TAU_PART

LEAST_TEACHERS = 3


class TeacherSpread(NamedTuple):
    """The spread of teachers: ``tau`` in points and its degrees of freedom.

    None: the guess, TAU_PART of the seed noise.
    """

    tau: float | None
    df: float

    def of(self, sigma: float) -> float:
        """Return tau for a cell of that seed noise."""
        return TAU_PART * sigma if self.tau is None else self.tau


GUESS = TeacherSpread(None, TAU_DF)


def teacher_spread(grid: Grid, metric: str) -> TeacherSpread:
    """Return the spread of teachers by the table's own rows, or the guess."""
    between, within, df, rest, rows_seen = 0.0, 0.0, 0, 0, []
    for column in grid.columns:
        cells = [
            cell
            for row in grid.rows
            if row.kind == "method" and (cell := grid.cell(row.name, column.name, metric))
        ]
        block = _block(cells)
        if block is None:
            continue
        rows, seeds = block.shape
        off = block - block.mean(axis=1, keepdims=True)
        common = off.mean(axis=0)
        between += rows * float((common**2).sum())
        within += float(((off - common) ** 2).sum())
        df, rest = df + seeds - 1, rest + (rows - 1) * (seeds - 1)
        rows_seen.append(rows)
    if not df or not rest:
        return GUESS
    excess = (between / df - within / rest) / float(np.mean(rows_seen))
    return TeacherSpread(max(excess, 0.0) ** 0.5, float(df))


def _block(cells: Iterable[GridCell]) -> np.ndarray | None:
    """Return rows x seeds of the cells that share enough teachers, each of its own seed."""
    mine = [
        c
        for c in cells
        if c.own_teacher and not c.overrides and len(set(c.teachers)) == c.n >= LEAST_TEACHERS
    ]
    alike = [c for c in mine if (c.seeds, c.teachers) == (mine[0].seeds, mine[0].teachers)]
    return np.array([c.values for c in alike]) if len(alike) > 1 else None


def teachers_of(cell: GridCell) -> float:
    """Return over how many teachers a cell averages beyond what its own spread shows.

    If each seed has its own, the seeds' spread holds theirs.
    """
    different = len(set(cell.teachers)) or 1
    return float("inf") if different > 1 and different == cell.n else float(different)
