"""One sentence for a table: how many cells are right, how many should be, and what is off."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmark.results.assurance import chance_of_match
from benchmark.results.evidence import Cells, Weighed
from benchmark.results.found import Shift, WholeTable
from benchmark.results.known import Filled
from benchmark.results.statistics import LEVEL
from benchmark.results.tabulate import JudgedCell
from benchmark.results.twoway import Parts, Teachers, two_way


def whole_table(
    metric: str, tasks: Sequence[JudgedCell], cells: Cells, shown: Weighed, known: Filled
) -> WholeTable | None:
    """Return what the table's own runs say of one metric as a whole."""
    mine = np.array([t.key[2] == metric for t in tasks])
    if not mine.any():
        return None
    reading = shown.answers.readings.argmax(axis=-1)
    settled = shown.answers.readings.sum(axis=-1) == 1
    right, chance = (_chance(cells, shown, reading, settled, truth) for truth in (0.0, 1.0))
    noisy = mine & ~cells.exact
    rows = [row.name for row in known.grid.rows]
    row = np.array([rows.index(t.key[0]) for t in tasks])
    columns = [column.name for column in known.grid.columns]
    names = {c.name: c.teacher for c in known.grid.columns}
    teacher = np.unique([names[t.key[1]] for t in tasks], return_inverse=True)[1]
    parts = table_parts(cells, shown, noisy, row, teacher)
    mean, off = (None, ()) if parts is None else named_shifts(parts, rows, columns)
    return WholeTable(
        metric,
        int(shown.reproduced[mine].sum()),
        int(mine.sum()),
        float(right[mine].sum()),
        float(chance[mine].sum()),
        mean,
        off,
        int((noisy & ~settled).sum()),
        int(shown.fell[noisy & settled].sum()),
    )


def table_parts(
    cells: Cells,
    shown: Weighed,
    among: NDArray[np.bool_],
    row: NDArray[np.int_],
    teacher: NDArray[np.int_],
) -> Parts | None:
    """Return the shifts of the cells of ``among`` whose statistic is settled, [..., K] arrays.

    With teachers of ours, rows that learn of none are left out: they do not share their spread.
    In simulated tables a cell counts if it is settled in all.
    """
    reading = shown.answers.readings.argmax(axis=-1)[..., None]
    settled = np.all(np.atleast_2d(shown.answers.readings.sum(axis=-1) == 1), axis=0)
    runs = np.where(shown.answers.counted, 1, 0)[..., None]
    delta, error = (
        np.take_along_axis(
            np.take_along_axis(field, reading[..., None], axis=-2)[..., 0, :], runs, axis=-1
        )[..., 0]
        for field in (shown.steady.delta, shown.steady.error)
    )
    taught = np.broadcast_to(cells.tau, row.shape) > 0
    use = among & settled & np.all(np.atleast_2d(np.isfinite(delta)), axis=0)
    if np.any(taught & use):
        use &= taught
    adds = cells.tau**2 * (1 + 1 / np.maximum(cells.teachers, 1)) * np.ones(row.shape)
    variance = np.maximum(error**2 - adds, 1e-6)[..., use]
    teachers = None
    if np.any(taught & use):
        teachers = Teachers(teacher[use], float(adds[use].mean()), float(cells.tau_df[use].min()))
    return two_way(delta[..., use], variance, row[use], cells.column[use], teachers)


def _chance(
    cells: Cells, shown: Weighed, reading: np.ndarray, settled: np.ndarray, truth: float
) -> np.ndarray:
    """Return how likely each cell is "reproduced" if it is off by so many margins."""
    every = np.arange(len(reading))
    runs = np.where(shown.answers.counted, 1, 0)
    sigma = shown.ours.sigma[every, reading]
    seeds = np.where(cells.exact, np.inf, cells.n)
    fixed = shown.tested.error[every, reading, runs] ** 2 - sigma**2 / seeds
    found = chance_of_match(
        sigma,
        shown.tested.df[every, reading, runs],
        cells.n,
        np.maximum(fixed, 0),
        cells.most,
        cells.margin,
        truth * cells.margin,
    )
    return np.where(cells.exact, 1.0 - truth, np.where(settled, found, 0.0))


def named_shifts(
    parts: Parts, rows: Sequence[str], columns: Sequence[str]
) -> tuple[Shift, tuple[Shift, ...]]:
    """Return the shift of the table, and all that are shown, the surest first."""
    named = [("table", "")]
    named += [("row", rows[i]) for i in parts.rows]
    named += [("column", columns[j]) for j in parts.columns]
    found = [
        Shift(kind, name, *(float(f[i]) for f in (parts.shift, parts.low, parts.high, parts.p)))
        for i, (kind, name) in enumerate(named)
    ]
    off = [s for s in found if s.p <= 1 - LEVEL]
    return found[0], tuple(sorted(off, key=lambda s: s.p))
