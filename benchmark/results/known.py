"""What is known before a table is judged: priors of its noise, its teachers' spread, biases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from benchmark.results.grid import CellKey, Grid, GridCell, GridColumn, GridRow
from benchmark.results.priors import cell_prior, checked_prior, table_scale
from benchmark.results.statistics import Prior, noise, selection_bias, side
from benchmark.results.tabulate import prior_by
from benchmark.results.teacher_noise import TeacherSpread, teacher_spread


class Filled(NamedTuple):
    """A table that claims speak of: its grid with selection biases, and what is known of noise.

    ``priors``: of each cell by the table's protocol, widened if the whole table is noisier;
    ``bare``: of its last epoch, before that. ``spreads``: of teachers, by metric.
    """

    grid: Grid
    priors: Mapping[CellKey, Prior]
    bare: Mapping[CellKey, Prior]
    spreads: Mapping[str, TeacherSpread]


def fill_in(grid: Grid) -> Filled:
    """Return a grid with what is known of its noise."""
    bare = _priors(grid)
    priors = _widened(grid, bare)
    cells = {key: _with_bias(cell, priors[key]) for key, cell in grid.cells.items()}
    spreads = {metric: teacher_spread(grid, metric) for metric in grid.metrics}
    return Filled(replace(grid, cells=cells), priors, bare, spreads)


def _priors(grid: Grid) -> dict[CellKey, Prior]:
    """Return the prior by cell, checked against the cells of its family in this table.

    A teacher's row has the teacher's family, every other row the student's (its own, where it
    has one). Runs that override the recipe are checked apart: they may be noisier than the
    table's own.
    """
    rows = {row.name: row for row in grid.rows}
    columns = {column.name: column for column in grid.columns}
    overridden = {key[:2] for key, cell in grid.cells.items() if cell.overrides}
    families = {
        key: (
            cell_prior(
                _trained_model(rows[key[0]], columns[key[1]]),
                columns[key[1]].dataset or grid.dataset,
                key[2],
            ),
            key[:2] in overridden,
        )
        for key in grid.cells
    }
    checked: dict[tuple[Prior, bool], Prior] = {}
    for family in dict.fromkeys(families.values()):
        samples = [
            cell.samples[0]
            for key, cell in grid.ordered
            if families[key] == family and cell.n > 1 and not cell.exact
        ]
        stds = [s.std for s in samples]
        checked[family] = checked_prior(
            family[0], [s for s in stds if s is not None], [s.n for s in samples]
        )
    return {key: checked[family] for key, family in families.items()}


def _widened(grid: Grid, priors: Mapping[CellKey, Prior]) -> dict[CellKey, Prior]:
    """Return the priors for the protocol, wider if the table as a whole is noisier."""
    found: dict[CellKey, Prior] = {}
    for overridden in (False, True):
        keys = [k for k, c in grid.cells.items() if bool(c.overrides) == overridden]
        if not keys:
            continue
        cells = [grid.cells[key] for key in keys]
        mine = [prior_by(priors[key], grid.protocol) for key in keys]
        scale = table_scale(
            np.array([np.nan if c.std is None else c.std for c in cells]),
            np.array([float(c.n) for c in cells]),
            np.array([p.sigma for p in mine]),
            np.array([c.exact for c in cells]),
        )
        wider = max(float(scale), 1.0)
        found |= {
            key: prior._replace(sigma=prior.sigma * wider)
            for key, prior in zip(keys, mine, strict=True)
        }
    return found


def _trained_model(row: GridRow, column: GridColumn) -> str:
    if row.kind == "teacher":
        return row.teacher or column.teacher
    return row.student or column.student


def describe_noise(known: Filled) -> tuple[str, ...]:
    """Return what was known of the noise beforehand, in words."""
    used = dict.fromkeys(known.bare[key] for key, _ in known.grid.ordered)
    found = [f"{p.sigma:.2f} points ({p.name}, {p.df:.0f} degrees of freedom)" for p in used]
    if any(cell.own_teacher for cell in known.grid.cells.values()):
        for metric, spread in known.spreads.items():
            tau = (
                "half of the seed noise for want of three teachers with seeds of their own"
                if spread.tau is None
                else f"{spread.tau:.2f} points by this table's own rows ({metric})"
            )
            found.append(f"teachers trained here in place of the paper's: they vary by {tau}")
    return tuple(dict.fromkeys(found))


def _with_bias(cell: GridCell, prior: Prior) -> GridCell:
    """Return the cell with the selection bias of a choice that was made on the test set."""
    if cell.selection is None or not cell.values:
        return cell
    bias = 0.0
    if cell.selection.on == "test":
        own = side(cell.mean or 0.0, cell.n, np.nan if cell.std is None else cell.std)
        sigma = float(noise(own, prior.sigma, prior.df).sigma)
        bias = selection_bias(cell.selection.candidates, sigma / cell.n**0.5)
    return replace(cell, selection=replace(cell.selection, bias=bias))
