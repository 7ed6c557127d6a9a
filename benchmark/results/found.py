"""What a judge finds: the words and numbers that a Grid carries beside its values.

Imports no numpy: renderers and figures read these.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from benchmark.table.published import Claim


class Verdict(StrEnum):
    """What ours says about the published value.

    ``above`` and ``below`` speak of the printed number: above is better for accuracies and
    worse for errors. ``not comparable``: the runs had other data, another recipe or a teacher of
    the user's own. ``conditional``: it depends on what the source leaves open, and the cell's
    ``condition`` says how. ``diverged``: the finished seeds would reproduce it, but more diverged
    than the table allows.
    """

    REPRODUCED = "reproduced"
    ABOVE = "above"
    BELOW = "below"
    CONDITIONAL = "conditional"
    UNDERPOWERED = "underpowered"
    DIVERGED = "diverged"
    NOT_COMPARABLE = "not comparable"
    NOT_PUBLISHED = "not published"
    EXPECTED_MISS = "expected miss"
    UNEXPECTED_HIT = "unexpected hit"


class ClaimVerdict(StrEnum):
    """What the rows say about a sentence; ``no gain``: what it claims to be better is not, by
    more than the margin at least."""

    HOLDS = "holds"
    FAILS = "fails"
    NO_GAIN = "no gain"
    MORE_SEEDS = "needs more seeds"


@dataclass(frozen=True)
class Comparison:
    """Ours against the published value by one statistic.

    ``centre`` is ours (a mean, or a median if theirs is one), ``delta`` = ours - published
    with its 95 % interval ``low`` to ``high``, good for looks after every seed; ``p`` is Holm's
    over the table for a miss. None: the noise is unknown, or there is none. ``verdict`` is this
    statistic's alone; the cell's own may differ if the source leaves something open.
    ``seeds_needed`` is None if no practical number is sure enough to settle it. ``noise`` says
    where the noise of both sides was taken from.
    """

    statistic: str
    centre: float
    std: float | None
    n: int
    delta: float
    low: float | None
    high: float | None
    p: float | None
    verdict: Verdict
    seeds_needed: int | None
    noise: str


@dataclass(frozen=True)
class Judgement:
    """A cell's verdict from all its comparisons.

    ``condition`` spells out a conditional verdict ("reproduced if best, open if last"); ``far``:
    a miss by more than the margin; ``sensitivity``: the word under other assumptions, each with
    its name, and ``fragile`` those that change it. ``fallen``: seeds that fell far behind the
    cell's others; they count in the cell, and not where the table is judged as a whole.
    """

    verdict: Verdict
    condition: str = ""
    far: bool = False
    sensitivity: tuple[tuple[str, str], ...] = ()
    fragile: tuple[str, ...] = ()
    fallen: tuple[int, ...] = ()


@dataclass(frozen=True)
class ClaimResult:
    """A claim with what the rows say: ``detail`` is one line on which columns decide it.

    ``seeds_needed``: how many seeds a cell would decide it with probability 0.8 if the means
    stay; None if it is decided, or if no practical number does.
    """

    claim: Claim
    verdict: ClaimVerdict
    detail: str
    seeds_needed: int | None = None


@dataclass(frozen=True)
class Pairwise:
    """Two rows over all columns: the mean gain of ``row`` over ``other`` with its 95 % interval,
    points, and the probability that a run of ``row`` is the better one."""

    row: str
    other: str
    gain: float
    low: float
    high: float
    improvement: float
    improvement_low: float
    improvement_high: float


@dataclass(frozen=True)
class Ranking:
    """Average ranks of rows over teachers (1 is best), best first.

    Columns that share a teacher count once, by their mean. Two rows differ if their ranks are
    further apart than ``critical_difference`` (Nemenyi); ``p`` is Friedman's by Iman and
    Davenport's F; both None below five teachers. ``left_out``: rows without a value everywhere;
    ``overridden``: how many cells have values with overrides alone, which count as missing.
    ``pairs``: the best row against each other.
    """

    metric: str
    average: tuple[tuple[str, float], ...]
    columns: tuple[str, ...]
    critical_difference: float | None
    p: float | None
    left_out: tuple[str, ...] = ()
    overridden: int = 0
    teachers: int = 0
    pairs: tuple[Pairwise, ...] = ()


@dataclass(frozen=True)
class Shift:
    """A part of a table that is off as a whole: ``kind`` table, row or column, with its mean
    shift, its interval and Holm's p over all parts."""

    kind: str
    name: str
    shift: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class WholeTable:
    """A metric of a table as a whole: ``reproduced`` of ``judged`` cells, how many are expected
    if all are right, and how many would pass if all were off by just the margin.

    ``mean``: the mean shift of the table, None where too little has run; ``off``: the parts
    whose shift is shown. ``left_out``: cells whose statistic is open; ``fallen``: seeds far behind
    their cells' others, without which the shifts are.
    """

    metric: str
    reproduced: int
    judged: int
    expected: float
    by_chance: float
    mean: Shift | None
    off: tuple[Shift, ...] = ()
    left_out: int = 0
    fallen: int = 0
