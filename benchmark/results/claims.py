"""Does a sentence of the paper hold in our rows?

Each expectation of a claim is a set of comparisons, one a column and a row it is compared with
(or one a column where a row is compared with a number). A comparison is established where its
one-sided test at 2.5 % says so, and refuted if the opposite test does: "better by at least 1"
is refuted if the gain is less than 1, "about 1" if it is further from 1 than the margin on
either side, and established if the whole 95 % interval lies within it; the margin of "about g"
is the table's, but never more than ``|g| / 2``, which a gain of 0 would pass. "Better" can also end
as **no gain**: fewer columns than are needed may have a gain as large as the table's margin. All
gains are oriented so that positive means better: for errors, lower is better. Seeds that both
rows share are compared in pairs (`statistics.paired_difference`).

The claim asks for `at_least` columns (all, unless given). It **holds** where that many are
established and **fails** where so many are refuted that the rest cannot suffice; between the
two it needs more seeds. A cell that holds runs with overrides alone counts as one without
runs: they say nothing about the paper.

A seed that diverged counts as an accuracy at chance level.

A row that was chosen as the best of n on the test set flatters itself by something between
nothing (one combination is far better than the others) and the bias that the judge estimates
(all are equally good). Every test takes off what would speak for its own answer: the whole bias
of the row that it finds high, none of the one that it finds low. So a choice never makes a
claim hold, or fail, and the price is seeds.

Looks are paid for as a cell's are (`looks.py`): every p-value is one of looks after every seed,
up to the most seeds of the table.

Error rates: a claim that asks for all its comparisons holds only if each is established, so
each may be tested at the full level (an intersection-union test); wherever some may be missing,
and for every refutation, Holm's correction runs over the comparisons.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from benchmark.results.decide import Bounds, Contrast, seeds_to_decide
from benchmark.results.grid import ClaimResult, ClaimVerdict, Grid, GridCell
from benchmark.results.known import Filled
from benchmark.results.looks import information, repeated_p
from benchmark.results.statistics import (
    LEVEL,
    Difference,
    Noise,
    Prior,
    Side,
    difference,
    holm,
    mean_std,
    noise,
    paired_difference,
    side,
)
from benchmark.results.tabulate import most_seeds
from benchmark.table.published import Claim, Expectation

ALPHA = (1 - LEVEL) / 2


class TableColumn(NamedTuple):
    """A column of a table: what counts once if a claim asks for a number of them."""

    table: str
    column: str


class CellPair(NamedTuple):
    """Two cells to compare, or one with a number (``theirs`` is None)."""

    place: TableColumn
    grid: Grid
    mine: GridCell
    theirs: GridCell | None
    prior: Prior

    @property
    def cells(self) -> list[GridCell]:
        """The cells there are."""
        return [cell for cell in (self.mine, self.theirs) if cell is not None]

    @property
    def ready(self) -> bool:
        """Whether there is something to compare."""
        return all(_outcomes(cell, 0.0) and not cell.overrides for cell in self.cells)


class Gain(NamedTuple):
    """A difference in points, positive if the row is better, and what may flatter it.

    ``ours`` and ``theirs`` are the selection biases of both rows. ``time``: the information time of
    this look, ``step`` the last step of it.
    """

    value: float
    error: float
    df: float
    ours: float
    theirs: float
    time: float = 1.0
    step: float = 1.0

    def p_above(self, bound: float) -> float:
        """Return the p-value for "the gain is above ``bound``"."""
        return self._p(self.value - self.ours - bound)

    def p_below(self, bound: float) -> float:
        """Return the p-value for "the gain is below ``bound``"."""
        return self._p(bound - self.value - self.theirs)

    def _p(self, distance: float) -> float:
        if self.error == 0:  # public checkpoints: no noise, the sign decides
            return float(distance <= 0)
        once = float(special.stdtr(self.df, -distance / self.error))
        if once >= 0.5:
            return once
        return float(repeated_p(2 * once, self.time, self.step)) / 2


class Evidence(NamedTuple):
    """One comparison: what is shown of it, the p-values for it, against it and for "no gain",
    the bias off, and what more seeds would do."""

    place: TableColumn
    shown: float
    p_for: float
    p_against: float
    p_none: float
    bias: float
    gain: Gain
    seeds: float
    bounds: Bounds


def evaluate(claim: Claim, own: Filled, others: Mapping[str, Filled]) -> ClaimResult:
    """Return what the rows say about a claim of a table; ``others`` by table name."""
    found = [_expectation(expect, _tables(expect, own, others)) for expect in claim.expect]
    verdicts = [verdict for verdict, _, _ in found]
    if all(v is ClaimVerdict.HOLDS for v in verdicts):
        verdict = ClaimVerdict.HOLDS
    elif ClaimVerdict.FAILS in verdicts:
        verdict = ClaimVerdict.FAILS
    elif ClaimVerdict.NO_GAIN in verdicts:
        verdict = ClaimVerdict.NO_GAIN
    else:
        verdict = ClaimVerdict.MORE_SEEDS
    seeds = None
    if verdict is ClaimVerdict.MORE_SEEDS:
        open_ = [n for v, _, n in found if v is ClaimVerdict.MORE_SEEDS]
        known = [n for n in open_ if n is not None]
        seeds = max(known) if len(known) == len(open_) else None
    details = " | ".join(dict.fromkeys(detail for _, detail, _ in found))
    return ClaimResult(claim, verdict, details, seeds)


def _tables(expect: Expectation, own: Filled, others: Mapping[str, Filled]) -> list[Filled]:
    names = expect.tables or (own.grid.name,)
    return [own if name == own.grid.name else others[name] for name in names]


def _outcomes(cell: GridCell, chance: float) -> dict[int, float]:
    """Return the values by seed, diverged ones at chance level."""
    found = dict(zip(cell.seeds, cell.values, strict=True)) if cell.values else {}
    return found | dict.fromkeys(cell.diverged_seeds, chance)


def compare_cells(left: GridCell, right: GridCell, prior: Prior, chance: float = 0.0) -> Difference:
    """Return left - right by the table's protocol, paired if the seeds are the same.

    A diverged seed counts as ``chance``.
    """
    one, two = _outcomes(left, chance), _outcomes(right, chance)
    if set(one) == set(two) and not left.exact and not right.exact:
        mean, std = mean_std([one[seed] - two[seed] for seed in sorted(one)])
        spread = np.nan if std is None else std
        return paired_difference(mean, len(one), spread, prior.sigma, prior.df)
    return difference(*_noisy(left, prior, chance), *_noisy(right, prior, chance))


def _noisy(cell: GridCell, prior: Prior, chance: float) -> tuple[Side, Noise]:
    values = list(_outcomes(cell, chance).values())
    mean, std = mean_std(values)
    own = side(mean, np.inf if cell.exact else len(values), np.nan if std is None else std)
    return own, noise(own, prior.sigma, prior.df)


def _pairs(expect: Expectation, tables: Sequence[Filled]) -> Iterator[CellPair]:
    """Yield what is compared; a row that a column does not have is not spoken of there."""
    for grid, priors, _, _ in tables:
        for column in expect.columns or [c.name for c in grid.columns]:
            mine = grid.cell(expect.row, column, expect.metric)
            if mine is None:
                continue
            place, prior = TableColumn(grid.name, column), priors[expect.row, column, expect.metric]
            if not expect.than:
                yield CellPair(place, grid, mine, None, prior)
            for row in expect.than:
                theirs = grid.cell(row, column, expect.metric)
                if theirs is not None:
                    yield CellPair(place, grid, mine, theirs, prior)


def _expectation(
    expect: Expectation, tables: Sequence[Filled]
) -> tuple[ClaimVerdict, str, int | None]:
    pairs = list(_pairs(expect, tables))
    if not pairs:
        return ClaimVerdict.MORE_SEEDS, "no column of the table has these rows", None
    places = list(dict.fromkeys(pair.place for pair in pairs))
    needed = min(expect.at_least or len(places), len(places))
    evidence = [_weigh(expect, pair) for pair in pairs if pair.ready]
    p_for = np.array([e.p_for for e in evidence])
    everything = needed == len(places)
    proven = p_for <= ALPHA if everything else holm(p_for) <= ALPHA
    against = _shown_in(evidence, [e.p_against for e in evidence])
    none = _shown_in(evidence, [e.p_none for e in evidence])
    waiting = {pair.place for pair in pairs if not pair.ready}
    waiting |= {e.place for e, yes in zip(evidence, proven, strict=True) if not yes}
    agree = len(places) - len(waiting)
    verdict = ClaimVerdict.MORE_SEEDS
    if agree >= needed:
        verdict = ClaimVerdict.HOLDS
    elif len(places) - len(against) < needed:
        verdict = ClaimVerdict.FAILS
    elif len(places) - len(against | none) < needed:
        verdict = ClaimVerdict.NO_GAIN
    counts = f"established in {agree} of {len(places)} columns"
    counts += "" if everything else f" ({needed} asked for)"
    counts += f", refuted in {len(against)}; {_shown(expect, evidence)}"
    parts = [counts if evidence else "no finished runs to compare", *_remarks(pairs, evidence)]
    if verdict is ClaimVerdict.NO_GAIN:
        parts.append(f"no gain of {evidence[0].bounds.trivial:.2f} or more in {len(none)}")
    if expect.tables:
        parts.append(f"over {', '.join(expect.tables)}")
        idle = set(expect.tables) - {e.place.table for e in evidence}
        if idle and evidence:
            parts.append(f"nothing to compare yet in {', '.join(sorted(idle))}")
    seeds = None
    if verdict is ClaimVerdict.MORE_SEEDS and evidence and len(evidence) == len(pairs):
        contrasts = [
            Contrast(places.index(e.place), e.gain.value, e.gain.error * e.seeds**0.5, e.bounds)
            for e in evidence
        ]
        most = max(most_seeds(p.grid, c) for p in pairs for c in p.cells)
        seeds = seeds_to_decide(contrasts, len(places), needed, most)
        parts.append(
            f"about {seeds} seeds a cell would decide it"
            if seeds
            else "no practical number of seeds would decide it"
        )
    return verdict, "; ".join(parts), seeds


def _shown_in(evidence: Sequence[Evidence], p: Sequence[float]) -> set[TableColumn]:
    """Return the columns in which a one-sided test shows it, after Holm over all comparisons."""
    return {e.place for e, yes in zip(evidence, holm(p) <= ALPHA, strict=True) if yes}


def _weigh(expect: Expectation, pair: CellPair) -> Evidence:
    place, grid, mine, theirs, prior = pair
    sign = 1.0 if grid.higher_is_better else -1.0
    number = expect.below if expect.above is None else expect.above
    chance = grid.at_chance(expect.metric)
    if theirs is None:
        assert number is not None
        bound = side(number, np.inf)
        found = difference(*_noisy(mine, prior, chance), bound, noise(bound, prior.sigma, prior.df))
    else:
        found = compare_cells(mine, theirs, prior, chance)
    biases = [
        (cell.selection.bias or 0.0) if cell and cell.selection else 0.0 for cell in (mine, theirs)
    ]
    time, step = _look(pair, chance)
    gain = Gain(
        sign * float(found.delta),
        float(found.error),
        max(float(found.df), 1.0),
        *biases,
    )._replace(time=time, step=step)
    bounds = bounds_of(expect, grid.margin_of(expect.metric), higher_is_better=sign > 0)
    p_for = max(gain.p_above(bounds.low), gain.p_below(bounds.high))
    p_against = min(gain.p_below(bounds.low), gain.p_above(bounds.high))
    p_none = 1.0 if bounds.trivial is None else gain.p_below(bounds.trivial)
    outcomes = _outcomes(mine, chance)
    if any(_one_seed(cell, chance) for cell in (mine, theirs)):
        p_for = p_against = p_none = 1.0  # one seed tells nothing of its own noise
    shown = float(np.mean(list(outcomes.values()))) if theirs is None else gain.value
    if expect.relation == "worse":
        shown = -shown
    return Evidence(
        place, shown, p_for, p_against, p_none, max(biases), gain, float(len(outcomes)), bounds
    )


def _look(pair: CellPair, chance: float) -> tuple[float, float]:
    """Return the information time of a comparison among looks after every seed, and its step."""
    trained = [cell for cell in pair.cells if not cell.exact]
    if not trained:
        return 1.0, 1.0
    now = [len(_outcomes(cell, chance)) for cell in trained]
    most = [max(most_seeds(pair.grid, c), n) for c, n in zip(trained, now, strict=True)]
    variance, at_most, before = (
        sum(1 / max(n, 1) for n in seeds) for seeds in (now, most, [n - 1 for n in most])
    )
    return float(information(variance, at_most)), 1 - float(information(before, at_most))


def _one_seed(cell: GridCell | None, chance: float) -> bool:
    return cell is not None and not cell.exact and len(_outcomes(cell, chance)) < 2


def bounds_of(expect: Expectation, margin: float, *, higher_is_better: bool) -> Bounds:
    """Return between which gains an expectation says that the row's lies.

    Gains are positive if the row is better; against a number: if it is above it as
    printed, turned for errors.
    """
    if expect.about is not None:
        around = min(margin, abs(expect.about) / 2) or margin
        return Bounds(expect.about - around, expect.about + around)
    if expect.relation is None:
        up = (expect.above is not None) == higher_is_better
        return Bounds(low=0.0) if up else Bounds(high=0.0)
    if expect.relation == "worse":
        return Bounds(high=-expect.by)
    if expect.relation == "not_worse":
        # It leaves a margin: the table's, unless the claim states one.
        return Bounds(low=-(expect.by or margin))
    return Bounds(low=expect.by, trivial=None if expect.by else margin)


def _shown(expect: Expectation, evidence: Sequence[Evidence]) -> str:
    values = [e.shown for e in evidence]
    sign = "" if expect.above is not None or expect.below is not None else "+"
    ends = [f"{value:{sign}.2f}" for value in (min(values, default=0), max(values, default=0))]
    span = " to ".join(ends) if len(values) > 1 else ends[0]
    if not sign:
        return f"value {span}"
    if expect.about is not None:
        return f"difference {span}, claimed {expect.about:+.2f}"
    return f"difference as claimed {span}"


def _remarks(pairs: Sequence[CellPair], evidence: Sequence[Evidence]) -> Iterator[str]:
    """Yield what was taken off for choices on the test set, and what was left out."""
    bias = max((e.bias for e in evidence), default=0.0)
    if bias:
        yield f"up to {bias:.2f} taken off for choices made on the test set"
    cells = {id(cell) for pair in pairs for cell in pair.cells if cell.values and cell.overrides}
    if cells:
        yield f"cells with overrides left out: {len(cells)}"
