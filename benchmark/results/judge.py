"""What the numbers of a table say: verdicts, claims and ranks, in one pure function."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from scipy import special

from benchmark.results.assurance import Open, seeds_to_settle
from benchmark.results.claims import evaluate
from benchmark.results.evidence import Cells, Weighed, weigh
from benchmark.results.found import Judgement
from benchmark.results.grid import CellKey, Comparison, Grid, GridCell, State, Verdict
from benchmark.results.known import Filled, describe_noise, fill_in
from benchmark.results.marks import with_marks
from benchmark.results.ranks import rank_rows
from benchmark.results.sensitivity import variants
from benchmark.results.statistics import (
    LEVEL,
    Floats,
    Noise,
    difference,
    joint_df,
    noise,
    published_noise,
    side,
)
from benchmark.results.stumbles import falling
from benchmark.results.tabulate import JudgedCell, readings, tabulate
from benchmark.results.whole import whole_table
from benchmark.results.words import (
    cell_word,
    condition,
    final_word,
    hypothesis_word,
    noise_words,
)


def judge(grid: Grid, others: Iterable[Grid] = ()) -> Grid:
    """Return the grid with verdicts, marks, selection biases, claims, ranks and noise.

    ``others`` are filled grids of the further tables that its claims speak of.

    The family of Holm's correction is all published cells of a metric's table, whatever has run
    so far: what is added later cannot turn a verdict. The table's own runs are one family, those
    with overrides another.
    """
    known = fill_in(grid)
    cells = {
        key: replace(cell, comparisons=(), judgement=None) for key, cell in known.grid.cells.items()
    }
    wholes = []
    for overridden in (False, True):
        tasks = _tasks(known, overridden=overridden)
        if not tasks:
            continue
        arrays = tabulate(tasks, grid, known.spreads, _family(grid))
        shown = weigh(arrays)
        for task, (compared, judgement) in zip(
            tasks, _judged(tasks, arrays, shown, grid), strict=True
        ):
            if task.cell.incomparable:
                compared, judgement = _apart(compared), Judgement(Verdict.NOT_COMPARABLE)
            cells[task.key] = replace(cells[task.key], comparisons=compared, judgement=judgement)
        if not overridden:
            wholes = [whole_table(m, tasks, arrays, shown, known) for m in grid.metrics]
    cells = {key: _with_interval(cell, known, key) for key, cell in cells.items()}
    judged = replace(
        grid,
        cells=with_marks(grid, cells),
        noise=describe_noise(known),
        wholes=tuple(w for w in wholes if w is not None),
    )
    further = {other.name: fill_in(other) for other in others}
    mine = known._replace(grid=judged)
    ranks = (rank_rows(judged, metric) for metric in grid.metrics)
    return replace(
        judged,
        ranks=tuple(r for r in ranks if r is not None),
        claim_results=tuple(evaluate(claim, mine, further) for claim in grid.claims),
    )


def _apart(compared: Iterable[Comparison]) -> tuple[Comparison, ...]:
    """Return comparisons that say how far a value is off, and nothing of the published one."""
    word = Verdict.NOT_COMPARABLE
    return tuple(replace(one, verdict=word, p=None, seeds_needed=None) for one in compared)


def _family(grid: Grid) -> int:
    """Return how many published cells the table has, run or not."""
    return sum(
        cell.published_value is not None and cell.state is not State.REFERENCE
        for cell in grid.cells.values()
    )


def _tasks(known: Filled, *, overridden: bool) -> list[JudgedCell]:
    rows = {row.name: row for row in known.grid.rows}
    datasets = {column.name: column.dataset for column in known.grid.columns}
    tasks = []
    for key, cell in known.grid.ordered:
        found = readings(cell, known.grid.protocol)
        if found and (bool(cell.overrides) or cell.incomparable) == overridden:
            assert cell.published is not None
            assert cell.published.value is not None
            tasks.append(
                JudgedCell(
                    key,
                    rows[key[0]],
                    cell,
                    cell.published,
                    cell.published.value,
                    found,
                    known.bare[key],
                    datasets[key[1]] or known.grid.dataset,
                )
            )
    return tasks


def _judged(
    tasks: Sequence[JudgedCell], cells: Cells, shown: Weighed, grid: Grid
) -> list[tuple[tuple[Comparison, ...], Judgement]]:
    needed = seeds_of(cells, shown)
    apart = _instead(tasks, shown, grid)
    other = [
        (name, about, [cell_word(v, i) for i in range(len(tasks))])
        for name, about, v in variants(cells, tasks)
    ]
    found = []
    for i, task in enumerate(tasks):
        plain = cell_word(shown, i)
        margin = grid.margin_of(task.key[2])
        word = final_word(plain, task.cell, task.value, apart[i], margin, grid.max_divergence)
        said = condition(shown, task, i, grid.unstated_n.runs)
        under = tuple((name, str(words[i])) for name, about, words in other if about[i])
        judgement = Judgement(
            word,
            said if plain is Verdict.CONDITIONAL else "",
            bool(shown.far[i]) and not task.cell.exact,
            under,
            tuple(name for name, w in under if w != plain),
            tuple(np.array(task.cell.seeds)[shown.fell[i, : task.cell.n]].tolist()),
        )
        open_ = word is Verdict.UNDERPOWERED
        compared = _comparisons(task, shown, i, grid, needed[i] if open_ else np.nan)
        # The headline is the cell's, whatever its first statistic says alone.
        compared[0] = replace(compared[0], verdict=word)
        found.append((tuple(compared), judgement))
    return found


def _comparisons(
    task: JudgedCell, shown: Weighed, i: int, grid: Grid, needed: float
) -> list[Comparison]:
    order = sorted(range(len(task.readings)), key=lambda j: not bool(shown.answers.readings[i, j]))
    tested, compared = shown.tested, []
    for j in order:
        one = task.readings[j]
        low, high = (
            (None, None)
            if task.cell.exact
            else (_or_none(tested.low[i, j, 1]), _or_none(tested.high[i, j, 1]))
        )
        first = j == order[0]
        compared.append(
            Comparison(
                statistic=one.statistic,
                centre=float(np.median(one.sample.values) if one.median else one.sample.mean or 0),
                std=one.sample.std,
                n=one.sample.n,
                delta=float(tested.delta[i, j, 1]),
                low=low,
                high=high,
                p=_or_none(shown.p[i]) if first and not task.cell.exact else None,
                verdict=hypothesis_word(shown, i, j, 1),
                seeds_needed=int(needed) if first and np.isfinite(needed) else None,
                noise=noise_words(shown, task, i, j, grid.unstated_n.runs),
            )
        )
    return compared


def seeds_of(cells: Cells, shown: Weighed) -> Floats:
    """Return how many further seeds would settle each cell (see `assurance.py`)."""
    alpha = 1 - LEVEL
    left = cells.family - int((shown.p <= alpha).sum())
    j = shown.answers.readings.argmax(axis=-1)
    rows = np.arange(len(j))
    sigma = shown.ours.sigma[rows, j]
    seeds = np.where(cells.exact, np.inf, cells.n)
    # Where one published run is not excluded, it has to be settled for one.
    runs = np.where(shown.answers.counted, 1, 0)
    fixed = shown.tested.error[rows, j, runs] ** 2 - sigma**2 / seeds
    tau = cells.tau**2 * (1 / np.maximum(cells.teachers, 1) + 1)
    return seeds_to_settle(
        Open(
            delta=shown.tested.delta[rows, j, 1],
            n=cells.n,
            sigma=sigma,
            df=shown.ours.df[rows, j],
            fixed=np.maximum(fixed, 0.0),
            fixed_df=joint_df((np.maximum(fixed - tau, 0.0), cells.df), (tau, cells.tau_df)),
            most=cells.most,
            margin=cells.margin,
            alpha=alpha / max(left, 1),
            falls=float(falling(cells, shown.fell)),
        ),
        ~cells.exact
        & (shown.miss == 0)
        & ~shown.reproduced
        & ~shown.conditional
        & ~shown.fell.any(axis=-1)
        & (shown.answers.readings.sum(axis=-1) == 1),
    )


def _instead(tasks: Sequence[JudgedCell], shown: Weighed, grid: Grid) -> list[tuple[float, float]]:
    """Return the interval of ours - what sources report if a miss is expected."""
    found = []
    for i, task in enumerate(tasks):
        if task.cell.expected_miss is None:
            found.append((np.nan, np.nan))
            continue
        one = task.readings[0]
        exact = task.cell.exact
        ours = side(
            one.sample.mean or 0.0,
            np.inf if exact else one.sample.n,
            np.nan if one.sample.std is None else one.sample.std,
            median=one.median,
        )
        sigma, df = shown.ours.sigma[i, 0], shown.ours.df[i, 0]
        mine = Noise(sigma, df, shown.ours.own[i, 0])
        theirs = side(task.cell.expected_miss.value, np.inf if exact else grid.unstated_n.runs)
        apart = difference(
            ours, mine, theirs, published_noise(theirs, mine, task.prior.sigma, task.prior.df)
        )
        found.append((float(apart.low), float(apart.high)))
    return found


def _with_interval(cell: GridCell, known: Filled, key: CellKey) -> GridCell:
    """Return the cell with the interval of its mean by the noise that verdicts use."""
    if not cell.values or cell.exact or cell.mean is None:
        return replace(cell, interval=None)
    prior = known.priors[key]
    own = noise(
        side(cell.mean, cell.n, np.nan if cell.std is None else cell.std), prior.sigma, prior.df
    )
    half = float(own.sigma * special.stdtrit(own.df, (1 + LEVEL) / 2)) / cell.n**0.5
    return replace(cell, interval=(cell.mean - half, cell.mean + half))


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
