"""What the numbers of a table say: verdicts, claims and ranks, in one pure function."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from benchmark.results.claims import Filled, evaluate
from benchmark.results.grid import (
    CellKey,
    Comparison,
    Grid,
    GridCell,
    GridColumn,
    GridRow,
    Mark,
    MarkKind,
    Sample,
    Selection,
    State,
    Verdict,
)
from benchmark.results.priors import checked_prior, family_prior
from benchmark.results.ranks import rank_rows
from benchmark.results.statistics import (
    LEVEL,
    Outcome,
    Prior,
    Side,
    difference,
    holm,
    noise,
    outcomes,
    published_noise,
    seeds_needed,
    selection_bias,
    side,
)
from benchmark.table.published import Published

MISSES = (Verdict.ABOVE, Verdict.BELOW, Verdict.DIVERGED, Verdict.EXPECTED_MISS)


class Reading(NamedTuple):
    """One statistic by which a cell is compared; ``median``: the centre over seeds is one."""

    statistic: str
    sample: Sample
    median: bool


class Task(NamedTuple):
    """A comparison to be made: where it stands, what is compared, and the cell's prior."""

    key: CellKey
    cell: GridCell
    published: Published
    value: float
    reading: Reading
    prior: Prior


def judge(grid: Grid, others: Iterable[Grid] = ()) -> Grid:
    """Return the grid with verdicts, teacher marks, selection biases, claims, ranks and noise.

    ``others`` are filled grids of the further tables that its claims speak of.

    The comparisons of the table's own runs are one family of Holm's correction, those of runs
    with overrides another; where the published statistic is unstated, the further readings are
    families of their own, since they are the same runs looked at again.
    """
    biased, priors = _with_biases(grid)
    cells = {key: replace(cell, comparisons=()) for key, cell in biased.cells.items()}
    tasks: defaultdict[tuple[int, bool], list[Task]] = defaultdict(list)
    for key, cell in grid.ordered:
        for place, reading in enumerate(readings(cell, grid.protocol)):
            published = cell.published
            assert published is not None
            assert published.value is not None
            tasks[place, bool(cell.overrides)].append(
                Task(key, cell, published, published.value, reading, priors[key[:2]])
            )
    for _, family in sorted(tasks.items()):
        for task, found in zip(family, _compare(family, grid), strict=True):
            cell = cells[task.key]
            cells[task.key] = replace(cell, comparisons=(*cell.comparisons, found))
    judged = replace(grid, cells=_with_marks(grid, cells), noise=_describe_priors(grid, priors))
    further = {other.name: _with_biases(other) for other in others}
    ranks = (rank_rows(judged, metric) for metric in grid.metrics)
    return replace(
        judged,
        ranks=tuple(r for r in ranks if r is not None),
        claim_results=tuple(
            evaluate(claim, Filled(judged, priors), further) for claim in grid.claims
        ),
    )


def readings(cell: GridCell, protocol: str) -> list[Reading]:
    """Return the statistics by which a cell is compared with its published value.

    The published one; a median of finals is the median over seeds of our last accuracies.
    Where it is unstated: the table's protocol, then last and best. An evaluated checkpoint has
    one reading.
    """
    if cell.published is None or cell.published.value is None or not cell.values:
        return []
    if cell.exact:
        return [Reading(protocol, cell.samples[0], False)]
    stated = cell.published.statistic
    if stated == "median_of_finals":
        wanted = [("last", True)]
    elif stated == "unstated":
        wanted = [(name, False) for name in dict.fromkeys((protocol, "last", "best"))]
    else:
        wanted = [(stated, False)]
    found = [(cell.sample(name), median) for name, median in wanted]
    return [
        Reading(stated if median else sample.statistic, sample, median)
        for sample, median in found
        if sample is not None
    ]


def _priors(grid: Grid) -> dict[tuple[str, str], Prior]:
    """Return the prior by (row, column), checked against the cells of its family in this table.

    A teacher's row has the teacher's family, every other row the student's (its own, where it
    has one). Runs that override the recipe are checked apart: they may be noisier than the
    table's own.
    """
    overridden = {key[:2] for key, cell in grid.cells.items() if cell.overrides}
    families = {
        (row.name, column.name): (
            family_prior(_trained_model(row, column), column.dataset),
            (row.name, column.name) in overridden,
        )
        for row in grid.rows
        for column in grid.columns
    }
    checked: dict[tuple[Prior, bool], Prior] = {}
    for family in dict.fromkeys(families.values()):
        samples = [
            cell.samples[0]
            for (row, column, _), cell in grid.ordered
            if families[row, column] == family and cell.n > 1 and not cell.exact
        ]
        stds = [s.std for s in samples]
        checked[family] = checked_prior(
            family[0], [s for s in stds if s is not None], [s.n for s in samples]
        )
    return {place: checked[family] for place, family in families.items()}


def _trained_model(row: GridRow, column: GridColumn) -> str:
    if row.kind == "teacher":
        return row.teacher or column.teacher
    return row.student or column.student


def _describe_priors(grid: Grid, priors: Mapping[tuple[str, str], Prior]) -> tuple[str, ...]:
    used = dict.fromkeys(priors[row, column] for (row, column, _), _ in grid.ordered)
    return tuple(f"{p.sigma:.2f} points ({p.name}, {p.df:.0f} degrees of freedom)" for p in used)


def _with_biases(grid: Grid) -> Filled:
    priors = _priors(grid)
    cells = {key: _with_bias(cell, priors[key[:2]]) for key, cell in grid.cells.items()}
    return Filled(replace(grid, cells=cells), priors)


def _with_bias(cell: GridCell, prior: Prior) -> GridCell:
    """Return the cell with the selection bias of a choice that was made on the test set."""
    if cell.selection is None or not cell.values:
        return cell
    bias = 0.0
    if cell.selection.on == "test":
        own = side(cell.mean or 0.0, cell.n, _or_nan(cell.std))
        sigma = float(noise(own, prior.sigma, prior.df).sigma)
        bias = selection_bias(cell.selection.candidates, sigma / cell.n**0.5)
    return replace(cell, selection=replace(cell.selection, bias=bias))


def _compare(tasks: list[Task], grid: Grid) -> list[Comparison]:
    """Return the comparisons of one family, in order."""
    runs = grid.unstated_n.runs
    ours = _sides(tasks, lambda t: _ours(t.cell, t.reading))
    theirs = _sides(tasks, lambda t: _theirs(t.cell, t.published, t.value, runs))
    sigma = np.array([t.prior.sigma for t in tasks])
    df = np.array([t.prior.df for t in tasks])
    our_noise = noise(ours, sigma, df)
    their_noise = published_noise(theirs, our_noise, sigma, df)
    found = difference(ours, our_noise, theirs, their_noise)
    # The same against what sources report where they say that the published value is wrong.
    other = _sides(tasks, lambda t: _instead(t.cell, runs))
    instead = difference(ours, our_noise, other, published_noise(other, our_noise, sigma, df))
    adjusted = holm(found.p)
    shown = outcomes(found, adjusted, grid.margin)
    # What Holm's procedure asks of the next p-value, after those it has already let pass.
    left = np.isfinite(adjusted).sum() - (adjusted <= 1 - LEVEL).sum()
    needed = seeds_needed(
        ours, our_noise, theirs, their_noise, grid.margin, (1 - LEVEL) / max(int(left), 1)
    )
    comparisons = []
    for i, task in enumerate(tasks):
        apart = float(instead.low[i]), float(instead.high[i])
        verdict = _final(_plain(shown, i), task.cell, task.value, apart, grid.margin)
        open_ = verdict is Verdict.UNDERPOWERED and np.isfinite(needed[i])
        comparisons.append(
            Comparison(
                statistic=task.reading.statistic,
                centre=float(ours.centre[i]),
                std=task.reading.sample.std,
                n=task.reading.sample.n,
                delta=float(found.delta[i]),
                low=_or_none(found.low[i]),
                high=_or_none(found.high[i]),
                p=_or_none(adjusted[i]),
                verdict=verdict,
                seeds_needed=int(needed[i]) if open_ else None,
                noise=_noise_words(task, runs, bool(our_noise.own[i])),
            )
        )
    return comparisons


def _plain(shown: Outcome, i: int) -> Verdict:
    """Return what the interval of one comparison says."""
    if shown.inside[i]:
        return Verdict.REPRODUCED
    if shown.above[i]:
        return Verdict.ABOVE
    return Verdict.BELOW if shown.below[i] else Verdict.UNDERPOWERED


def _final(
    word: Verdict, cell: GridCell, published: float, apart: tuple[float, float], margin: float
) -> Verdict:
    """Return the verdict after what else is known: diverged seeds, expected misses.

    ``apart``: the interval of ours - what sources report instead. A miss is the expected one
    where ours is off to that side, and not beyond it by more than the margin. A hit is
    unexpected unless the two values lie so close that ours may agree with both.
    """
    if word is Verdict.REPRODUCED and cell.diverged_seeds:
        return Verdict.DIVERGED
    miss = cell.expected_miss
    if miss is None:
        return word
    low, high = apart
    if word is Verdict.ABOVE and miss.value > published and low <= margin:
        return Verdict.EXPECTED_MISS
    if word is Verdict.BELOW and miss.value < published and high >= -margin:
        return Verdict.EXPECTED_MISS
    if word is Verdict.REPRODUCED and abs(miss.value - published) > margin:
        return Verdict.UNEXPECTED_HIT
    return word


def _sides(tasks: list[Task], of: Callable[[Task], tuple[float, float, float, bool]]) -> Side:
    centre, n, std, median = zip(*(of(task) for task in tasks), strict=True)
    return side(np.array(centre), np.array(n), np.array(std), median=np.array(median))


def _ours(cell: GridCell, reading: Reading) -> tuple[float, float, float, bool]:
    values = reading.sample.values
    centre = float(np.median(values) if reading.median else np.mean(values))
    return (
        centre,
        np.inf if cell.exact else len(values),
        _or_nan(reading.sample.std),
        reading.median,
    )


def _theirs(
    cell: GridCell, published: Published, value: float, unstated_n: int
) -> tuple[float, float, float, bool]:
    n = np.inf if cell.exact else published.n or unstated_n
    # A std without its n cannot be weighed: the prior stands in.
    std = published.std if published.std is not None and published.n is not None else None
    return value, n, _or_nan(std), published.statistic == "median_of_finals"


def _instead(cell: GridCell, unstated_n: int) -> tuple[float, float, float, bool]:
    value = cell.expected_miss.value if cell.expected_miss else np.nan
    return value, np.inf if cell.exact else unstated_n, np.nan, False


def _noise_words(task: Task, unstated_n: int, overruled: bool) -> str:
    if task.cell.exact:
        return "one checkpoint evaluated, no seed noise"
    prior, published = task.prior, task.published
    basis = f"prior {prior.sigma:.2f} ({prior.name})"
    n = len(task.reading.sample.values)
    if overruled:
        ours = f"own std of {n} seeds, too wide for the {basis}"
    else:
        ours = f"{basis}, 1 seed" if n == 1 else f"{basis} updated by {n} seeds"
    runs = f"n = {published.n}" if published.n else f"n unstated, taken as {unstated_n}"
    if published.std is not None and published.n is not None and published.n > 1:
        theirs = f"{basis} updated by the published std {published.std:.2f}, {runs}"
    else:
        theirs = f"{'our own' if overruled else 'the same prior'}, {runs}"
    return f"ours: {ours}; published: {theirs}"


def _with_marks(grid: Grid, cells: Mapping[CellKey, GridCell]) -> dict[CellKey, GridCell]:
    """Return the cells with marks for missed teachers, diverged seeds, statistics, selections."""
    teachers = [row.name for row in grid.rows if row.kind == "teacher"]
    missed = {
        (column, metric)
        for (row, column, metric), cell in cells.items()
        if row in teachers and cell.verdict in MISSES
    }
    marked = {}
    for key, cell in cells.items():
        found = _marks(cell, grid, key[1:] in missed, key[0] in teachers)
        # Each once: a grid may be judged again.
        marked[key] = replace(cell, marks=tuple(dict.fromkeys((*cell.marks, *found))))
    return marked


def _marks(cell: GridCell, grid: Grid, teacher_missed: bool, is_teacher: bool) -> list[Mark]:
    found = []
    if cell.overrides:
        found.append(Mark(MarkKind.OVERRIDE, f"override: {', '.join(cell.overrides)}"))
    if teacher_missed and not is_teacher and cell.state is not State.REFERENCE:
        found.append(Mark(MarkKind.TEACHER, "its teacher misses its own published value"))
    if cell.diverged_seeds and cell.values:
        seeds = ", ".join(str(seed) for seed in cell.diverged_seeds)
        word = "seed" if len(cell.diverged_seeds) == 1 else "seeds"
        found.append(Mark(MarkKind.DIVERGED, f"{word} {seeds} diverged and left no value"))
    if cell.expected_miss is not None and cell.verdict in (Verdict.ABOVE, Verdict.BELOW):
        value = f"{cell.expected_miss.value:.{grid.decimals}f}"
        text = f"neither the published value nor the {value} that sources report instead"
        found.append(Mark(MarkKind.OTHER, text))
    if cell.selection is not None:
        found.append(Mark(MarkKind.SELECTED, _selection_words(cell.selection)))
    if cell.comparisons and cell.published and cell.published.statistic != "unstated":
        first = cell.comparisons[0]
        if first.statistic != grid.protocol:
            text = f"compared by {first.statistic.replace('_', ' ')}, as published"
            found.append(Mark(MarkKind.STATISTIC, text))
    return found


def _selection_words(selection: Selection) -> str:
    how = (
        f"best of {selection.candidates} combinations on the test set"
        if selection.on == "test"
        else f"best of {selection.candidates} combinations on held-out training images"
    )
    chosen = f"{how}: {selection.chosen}"
    if selection.on == "test" and selection.bias is not None:
        return f"{chosen}; the choice flatters by up to {selection.bias:.2f}"
    return chosen


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
