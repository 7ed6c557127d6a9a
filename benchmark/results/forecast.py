"""What a table will say if the paper is right, before the money is spent. Imports no torch.

Every published cell is taken to be exactly right and its noise to be what is known beforehand:
how likely is "reproduced" at the planned seeds, how likely does it stay conditional on what the
source leaves open (`openness.py`), and how many seeds would do? Every claim is taken to
hold with the gains that the paper prints: how likely is that shown? Gains are of published values,
which are noisy themselves, so that small ones are uncertain beyond what is said here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from benchmark.results.assurance import PARTS, chance_of_match
from benchmark.results.claims import bounds_of
from benchmark.results.decide import Contrast, chance_of_decision, seeds_to_decide
from benchmark.results.foreseen import ClaimForecast, TableForecast
from benchmark.results.looks import default_most
from benchmark.results.openness import ForeseenCell, chance_of_epoch, chance_of_runs
from benchmark.results.priors import TAU_DF, TAU_PART, best_gain, cell_prior
from benchmark.results.statistics import MAX_SEEDS, Floats, joint_df
from benchmark.table.published import Claim, Expectation
from benchmark.table.spec import Column, Row, Table
from benchmark.table.teachers import registered

LIKELY = 0.5


def forecast(table: Table, seeds: int) -> TableForecast:
    """Return what a table will say at so many seeds a cell if the paper is right."""
    most = table.max_seeds or default_most(seeds)
    shown = list(_published(table))
    cells = [_foreseen(table, *one) for one in shown if not _is_public(table, *one[:2])]
    public = len(shown) - len(cells)
    claims = tuple(_claim(table, claim, seeds) for claim in table.claims)
    if not cells:
        return TableForecast(
            seeds, len(shown), float(public), float(public), 0.0, (), (), claims, MAX_SEEDS
        )
    right = _matches(cells, seeds, most)
    alone = _matches(cells, seeds, most, alone=True)
    both = _matches(cells, seeds, most, alone=True, both=True)
    epoch = chance_of_epoch(cells, seeds)
    runs = chance_of_runs(cells, epoch, seeds)
    one_run = epoch * alone + (1 - epoch) * both
    found = epoch * (runs * right + (1 - runs) * alone) + (1 - epoch) * both
    totals = np.arange(1.0, MAX_SEEDS + 1)
    far, left_open = [], []
    for cell, likely, sure in zip(cells, right, found, strict=True):
        if likely < LIKELY:
            enough = _matches([cell], totals, most) >= LIKELY
            far.append((cell.place, int(enough.argmax()) + 1 if enough.any() else None))
        elif sure < likely / 2:
            left_open.append(cell.place)
    return TableForecast(
        seeds,
        len(shown),
        public + float(found.sum()),
        public + float(one_run.sum()),
        float((right - found).sum()),
        tuple(far),
        tuple(left_open),
        claims,
        MAX_SEEDS,
    )


def _matches(
    cells: Sequence[ForeseenCell],
    totals: ArrayLike,
    most: int,
    *,
    alone: bool = False,
    both: bool = False,
) -> Floats:
    """Return how likely right cells are "reproduced" by their right reading.

    ``alone``: if unstated numbers of runs are one; ``both``: by either epoch if it is open.
    """

    def each(of: Callable[[ForeseenCell], float]) -> Floats:
        return np.array([of(cell) for cell in cells])

    published = each(lambda c: c.alone if alone else c.published)
    other = each(lambda c: c.other)
    sigma, df = each(lambda c: c.sigma), each(lambda c: c.df)
    # Within the margin by both of two readings that differ by the gain.
    half = each(lambda c: c.gain / 2 if c.two and both else 0.0)
    known = df + np.asarray(totals) - 1
    if other.any():
        fixed = joint_df((published, df), (other, np.full(len(cells), TAU_DF)))
        known = np.where(other > 0, np.minimum(known, fixed + np.asarray(totals) - 1), known)
    margin = each(lambda c: c.margin)
    # Averaged over what each cell's true spread may be, which later seeds show in part.
    later = df + np.asarray(totals) - 1
    chances = []
    for part in PARTS:
        true = df / special.chdtri(df, part)
        seen = (df + (later - df) * true) / later
        chances.append(
            chance_of_match(
                sigma * np.sqrt(seen),
                known,
                totals,
                published * true + other,
                float(most),
                margin - half,
                half,
            )
        )
    return np.asarray(np.mean(chances, axis=0))


def _foreseen(table: Table, row: Row, column: Column, metric: str) -> ForeseenCell:
    entry = table.published_value(row.name, column.name, metric)  # type: ignore[arg-type]
    assert entry is not None
    sigma, df = _noise(table, row, column, metric)
    taught = row.of is None and not _public_teacher(table, row, column)
    return ForeseenCell(
        f"{row.name}, {column.name}" + (f", {metric}" if table.metrics[1:] else ""),
        (entry.origin or row.name, metric),
        sigma,
        df,
        sigma**2 / (entry.n or table.unstated_n.runs),
        sigma**2 / (entry.n or 1),
        2 * (TAU_PART * sigma) ** 2 if taught else 0.0,
        table.margins.get(metric, table.margin),  # type: ignore[call-overload]
        entry.statistic == "unstated",
        entry.n is None and table.unstated_n.runs > 1,
        best_gain(sigma),
    )


def _published(table: Table) -> Iterator[tuple[Row, Column, Any]]:
    for row in table.rows:
        for column in table.columns:
            for metric in table.metrics:
                entry = table.published_value(row.name, column.name, metric)
                trained = not row.reference and column.name not in row.not_run
                if trained and entry is not None and entry.value is not None:
                    yield row, column, metric


def _is_public(table: Table, row: Row, column: Column) -> bool:
    """Return whether a teacher's cell is a public checkpoint evaluated."""
    return row.of == "teacher" and _public_teacher(table, row, column)


def _public_teacher(table: Table, row: Row, column: Column) -> bool:
    dataset = column.dataset or table.dataset
    known = registered(dataset, row.teacher or column.teacher)
    return table.teacher.from_ == "registry" and known is not None


def _noise(table: Table, row: Row, column: Column, metric: str) -> tuple[float, float]:
    """Return sigma and its degrees of freedom by the statistic that is compared."""
    entry = table.published_value(row.name, column.name, metric)  # type: ignore[arg-type]
    stated = entry.statistic if entry and entry.statistic != "unstated" else table.protocol.report
    student = row.student or column.student
    model = (row.teacher or column.teacher) if row.of == "teacher" else student
    prior = cell_prior(model, column.dataset or table.dataset, metric, stated)
    return prior.sigma, prior.df


def _claim(table: Table, claim: Claim, seeds: int) -> ClaimForecast:
    found = [_expectation(table, expect, seeds) for expect in claim.expect]
    needed = [n for _, n, known, _ in found if known]
    return ClaimForecast(
        claim.text,
        float(np.prod([holds for holds, _, _, _ in found])),
        None if None in needed or not needed else max(n for n in needed if n is not None),
        sum(known for _, _, known, _ in found),
        sum(unknown for *_, unknown in found),
    )


def _expectation(
    table: Table, expect: Expectation, seeds: int
) -> tuple[float, int | None, int, int]:
    """Return the chance that it is shown to hold, seeds needed, comparisons known and not."""
    if expect.tables:
        return 1.0, None, 0, 1  # it speaks of other tables
    sign = 1.0 if table.show_as == "accuracy" else -1.0
    margin = table.margins.get(expect.metric, table.margin)
    bounds = bounds_of(expect, margin, higher_is_better=sign > 0)
    number = expect.below if expect.above is None else expect.above
    contrasts: list[Contrast] = []
    unknown, places = 0, 0
    for name in expect.columns or [c.name for c in table.columns]:
        column = table.column(name)
        mine = table.published_value(expect.row, name, expect.metric)
        for other in expect.than or (None,):
            theirs = None if other is None else table.published_value(other, name, expect.metric)
            value = number if other is None else theirs.value if theirs else None
            if mine is None or mine.value is None or value is None:
                unknown += 1
                continue
            spread = _noise(table, table.row(expect.row), column, expect.metric)[0] ** 2
            if other is not None and not _is_public(table, table.row(other), column):
                spread += _noise(table, table.row(other), column, expect.metric)[0] ** 2
            contrasts.append(Contrast(places, sign * (mine.value - value), spread**0.5, bounds))
        places += any(one.place == places for one in contrasts)
    if not contrasts:
        return 1.0, None, 0, max(unknown, 1)
    needed = min(expect.at_least or places, places)
    most = table.max_seeds or default_most(seeds)
    _, holds = chance_of_decision(contrasts, places, needed, most)
    at = max(min(seeds, MAX_SEEDS) - 2, 0)
    return (
        float(holds[at]) if seeds > 1 else 0.0,
        seeds_to_decide(contrasts, places, needed, most, holding=True),
        len(contrasts),
        unknown,
    )
