"""Does a sentence of the paper hold in our rows?

Each expectation of a claim is a set of comparisons, one a column and a row it is compared with,
oriented so that positive means "as claimed": for errors, lower is better. A comparison is
established where its one-sided test at 2.5 % says so, and refuted where the opposite test does.
Seeds that both rows share are compared in pairs (`statistics.paired_difference`).

The claim asks for `at_least` columns (all, unless given). It **holds** where that many are
established and **fails** where so many are refuted that the rest cannot suffice; between the
two it needs more seeds. A cell that holds runs with overrides alone counts as one without
runs: they say nothing about the paper.

Error rates: a claim that asks for all its comparisons holds only if each is established, so each
may be tested at the full level (an intersection-union test); wherever some may be missing, and
for every refutation, Holm's correction runs over the comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import special

from benchmark.results.grid import ClaimResult, ClaimVerdict, Grid, GridCell
from benchmark.results.statistics import (
    LEVEL,
    Difference,
    Prior,
    difference,
    holm,
    mean_std,
    noise,
    paired_difference,
    side,
)
from benchmark.spec import Claim, Expectation

ALPHA = (1 - LEVEL) / 2


class Evidence(NamedTuple):
    """One comparison as claimed: the difference in points, and the p-values for and against."""

    column: str
    delta: float
    p_for: float
    p_against: float


def evaluate(claim: Claim, grid: Grid, priors: Mapping[tuple[str, str], Prior]) -> ClaimResult:
    """Return what the grid says about a claim; ``priors`` by (row, column)."""
    found = [_expectation(expect, grid, priors) for expect in claim.expect]
    verdicts = [verdict for verdict, _ in found]
    if all(v is ClaimVerdict.HOLDS for v in verdicts):
        verdict = ClaimVerdict.HOLDS
    elif ClaimVerdict.FAILS in verdicts:
        verdict = ClaimVerdict.FAILS
    else:
        verdict = ClaimVerdict.MORE_SEEDS
    return ClaimResult(claim, verdict, "; ".join(dict.fromkeys(detail for _, detail in found)))


def compare_cells(left: GridCell, right: GridCell, prior: Prior) -> Difference:
    """Return left - right by the table's protocol, paired where the seeds are the same."""
    if left.seeds == right.seeds and not left.exact and not right.exact:
        mean, std = mean_std(np.subtract(left.values, right.values))
        spread = np.nan if std is None else std
        return paired_difference(mean, left.n, spread, prior.sigma, prior.df)
    sides = []
    for cell in (left, right):
        mean, std = mean_std(cell.values)
        own = side(mean, np.inf if cell.exact else cell.n, np.nan if std is None else std)
        sides.append((own, noise(own, prior.sigma, prior.df)))
    return difference(*sides[0], *sides[1])


def _expectation(
    expect: Expectation, grid: Grid, priors: Mapping[tuple[str, str], Prior]
) -> tuple[ClaimVerdict, str]:
    columns = [c for c in expect.columns or [c.name for c in grid.columns]]
    # A column where the table has no such cell at all is not what the sentence is about.
    columns = [
        c
        for c in columns
        if all(grid.cell(r, c, expect.metric) for r in (expect.row, *expect.than))
    ]
    needed = min(expect.at_least or len(columns), len(columns))
    evidence: list[Evidence] = []
    open_columns = set()
    overridden: set[tuple[str, str]] = set()
    for column in columns:
        mine = grid.cells[expect.row, column, expect.metric]
        for other in expect.than:
            theirs = grid.cells[other, column, expect.metric]
            overridden |= {
                (row, column)
                for row, cell in ((expect.row, mine), (other, theirs))
                if cell.values and not cell.speaks
            }
            if mine.speaks and theirs.speaks:
                evidence.append(
                    _weigh(expect, column, mine, theirs, grid, priors[expect.row, column])
                )
            else:
                open_columns.add(column)
    if not columns:
        return ClaimVerdict.MORE_SEEDS, "no column of the table has these rows"
    p_for = np.array([e.p_for for e in evidence])
    everything = needed == len(columns)
    proven = p_for <= ALPHA if everything else holm(p_for) <= ALPHA
    refuted = holm([e.p_against for e in evidence]) <= ALPHA
    against = {e.column for e, no in zip(evidence, refuted, strict=True) if no}
    open_columns |= {e.column for e, yes in zip(evidence, proven, strict=True) if not yes}
    agree = [c for c in columns if c not in open_columns]
    if len(agree) >= needed:
        verdict = ClaimVerdict.HOLDS
    elif len(columns) - len(against) < needed:
        verdict = ClaimVerdict.FAILS
    else:
        verdict = ClaimVerdict.MORE_SEEDS
    detail = _detail(len(agree), len(against), len(columns), needed, evidence)
    if overridden:
        detail += f"; cells with overrides left out: {len(overridden)}"
    return verdict, detail


def _weigh(
    expect: Expectation, column: str, mine: GridCell, theirs: GridCell, grid: Grid, prior: Prior
) -> Evidence:
    found = compare_cells(mine, theirs, prior)
    sign = 1.0 if grid.higher_is_better == (expect.relation != "worse") else -1.0
    # "Not worse" leaves a margin: the table's, unless the claim states one.
    least = -(expect.by or grid.margin) if expect.relation == "not_worse" else expect.by
    distance = sign * float(found.delta) - least
    error, df = float(found.error), max(float(found.df), 1.0)
    if error == 0:  # two public checkpoints: no noise, the sign decides
        return Evidence(
            column, sign * float(found.delta), float(distance <= 0), float(distance > 0)
        )
    p_for = float(special.stdtr(df, -distance / error))
    return Evidence(column, sign * float(found.delta), p_for, 1 - p_for)


def _detail(agree: int, against: int, columns: int, needed: int, evidence: list[Evidence]) -> str:
    asked = "" if needed == columns else f" ({needed} asked for)"
    counts = f"established in {agree} of {columns} columns{asked}, refuted in {against}"
    if not evidence:
        return "no finished runs to compare"
    deltas = [e.delta for e in evidence]
    span = f"{min(deltas):+.2f} to {max(deltas):+.2f}" if len(deltas) > 1 else f"{deltas[0]:+.2f}"
    return f"{counts}; difference as claimed {span}"
