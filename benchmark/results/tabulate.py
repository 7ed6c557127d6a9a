"""From the cells of a grid to the arrays that `evidence.py` weighs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmark.results.evidence import Cells
from benchmark.results.grid import CellKey, Grid, GridCell, GridRow, SeedValues
from benchmark.results.looks import default_most
from benchmark.results.priors import BEST_FACTOR
from benchmark.results.statistics import Prior
from benchmark.results.teacher_noise import TeacherSpread, teachers_of
from benchmark.table.published import Published

# What arithmetic on another machine and rounding in print explain of one checkpoint's accuracy:
# five images of 10,000; decoding and resizing photographs moves more.
EXACT_TOLERANCE = 0.055
PHOTO_TOLERANCE = 0.15


class ByStatistic(NamedTuple):
    """One statistic by which a cell is compared; ``median``: the centre over seeds is one."""

    statistic: str
    sample: SeedValues
    median: bool


class JudgedCell(NamedTuple):
    """A published cell to be judged: where it stands, its readings, and its prior for last."""

    key: CellKey
    row: GridRow
    cell: GridCell
    published: Published
    value: float
    readings: tuple[ByStatistic, ...]
    prior: Prior
    dataset: str


def readings(cell: GridCell, protocol: str) -> tuple[ByStatistic, ...]:
    """Return the statistics by which a cell is compared with its published value.

    The published one; a median of finals is the median over seeds of our last accuracies.
    If it is unstated: the table's protocol, then last and best. An evaluated checkpoint has
    one reading.
    """
    if cell.published is None or cell.published.value is None or not cell.values:
        return ()
    if cell.exact:
        return (ByStatistic(protocol, cell.samples[0], False),)
    stated = cell.published.statistic
    if stated == "median_of_finals":
        wanted = [("last", True)]
    elif stated == "unstated":
        wanted = [(name, False) for name in dict.fromkeys((protocol, "last", "best"))]
    else:
        wanted = [(stated, False)]
    found = [(cell.sample(name), median) for name, median in wanted]
    return tuple(
        ByStatistic(stated if median else sample.statistic, sample, median)
        for sample, median in found
        if sample is not None
    )


def prior_by(prior: Prior, statistic: str) -> Prior:
    """Return a cell's prior for a statistic; the best epoch scatters less."""
    return prior._replace(sigma=prior.sigma * (BEST_FACTOR if statistic == "best" else 1.0))


def tabulate(
    tasks: Sequence[JudgedCell],
    grid: Grid,
    spreads: Mapping[str, TeacherSpread],
    family: int,
) -> Cells:
    """Return the tasks as arrays; ``family``: how many published cells the table has."""
    width = max(len(t.readings) for t in tasks)
    shape = (len(tasks), width)
    means, stds = np.full(shape, np.nan), np.full(shape, np.nan)
    median, admissible = np.zeros(shape, bool), np.zeros(shape, bool)
    sigma = np.ones(shape)
    values = np.full((*shape, max(t.cell.n for t in tasks)), np.nan)
    for i, task in enumerate(tasks):
        for j, one in enumerate(task.readings):
            mine = one.sample.values
            values[i, j, : len(mine)] = mine
            means[i, j] = np.median(mine) if one.median else np.mean(mine)
            stds[i, j] = np.nan if one.sample.std is None else one.sample.std
            median[i, j], admissible[i, j] = one.median, True
            sigma[i, j] = prior_by(task.prior, one.statistic).sigma
        sigma[i, len(task.readings) :] = sigma[i, 0]

    def each(of: Callable[[JudgedCell], Any]) -> Any:
        return np.array([of(t) for t in tasks])

    rows = [row.name for row in grid.rows]
    columns = [column.name for column in grid.columns]
    sources = {name: i for i, name in enumerate(dict.fromkeys(source_of(t) for t in tasks))}
    assert set(t.key[0] for t in tasks) <= set(rows)
    return Cells(
        means=means,
        stds=stds,
        median=median,
        n=each(lambda t: float(t.cell.n)),
        most=each(lambda t: float(most_seeds(grid, t.cell))),
        admissible=admissible,
        value=each(lambda t: t.value),
        value_std=each(lambda t: np.nan if t.published.std is None else t.published.std),
        value_n=each(lambda t: float(t.published.n or np.nan)),
        assumed=grid.unstated_n.runs,
        sigma=sigma,
        df=each(lambda t: t.prior.df),
        source=each(lambda t: sources[source_of(t)]),
        column=each(lambda t: columns.index(t.key[1])),
        exact=each(lambda t: t.cell.exact),
        tolerance=each(
            lambda t: PHOTO_TOLERANCE if t.dataset.startswith("imagenet") else EXACT_TOLERANCE
        ),
        margin=each(lambda t: grid.margin_of(t.key[2])),
        tau=each(lambda t: spreads[t.key[2]].of(t.prior.sigma) if learned_here(t) else 0.0),
        tau_df=each(lambda t: spreads[t.key[2]].df),
        teachers=each(lambda t: teachers_of(t.cell)),
        family=family,
        values=values,
        upward=grid.higher_is_better,
    )


def source_of(task: JudgedCell) -> str:
    """Return whose experiment a published number is: its ``origin``, or else its row's."""
    return f"{task.published.origin or task.row.name}\n{task.key[2]}"


def learned_here(task: JudgedCell) -> bool:
    """Return whether the cell's students learned of teachers that are not the paper's."""
    return task.row.kind == "method" and task.cell.own_teacher


def most_seeds(grid: Grid, cell: GridCell) -> int:
    """Return up to how many seeds a cell may be extended."""
    return max(grid.max_seeds or default_most(max(cell.planned, 1)), cell.planned)
