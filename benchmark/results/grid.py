"""The Grid: one table with everything that is known about it, ready to be shown.

`collect.py` fills it from runs, :func:`benchmark.results.judge.judge` adds what the numbers
say, and every renderer, figure or report reads nothing else. Plain frozen dataclasses; all
values are in points as the table prints them: an error table holds errors, ours and published.
Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Literal, NamedTuple

from benchmark.results.found import ClaimResult as ClaimResult
from benchmark.results.found import ClaimVerdict as ClaimVerdict
from benchmark.results.found import Comparison as Comparison
from benchmark.results.found import Judgement, WholeTable
from benchmark.results.found import Ranking as Ranking
from benchmark.results.found import Verdict as Verdict
from benchmark.results.statistics import mean_std
from benchmark.table.published import Claim, ExpectedMiss, Published, UnstatedN

RowKind = Literal["teacher", "student", "method", "reference"]


class State(StrEnum):
    """How far a cell's runs are; a cell may have values in any state but the last four."""

    DONE = "done"  # every planned seed has a result
    PARTIAL = "partial"  # some have, and nothing is under way
    RUNNING = "running"
    QUEUED = "queued"
    FAILED = "failed"  # at least one run failed, and none is under way
    DIVERGED = "diverged"  # every finished seed diverged
    MISSING = "missing"  # no run
    REFERENCE = "reference"  # published only, never trained


class MarkKind(StrEnum):
    """Why a cell carries a footnote letter."""

    OVERRIDE = "override"  # the recipe or an option was overridden
    ASSUMED = "assumed"  # an option that no source states
    OWN = "own"  # a teacher's file of the user's own
    TEACHER = "teacher"  # its teacher misses its own published value
    DIVERGED = "diverged"  # some seeds diverged
    SELECTED = "selected"  # the best of a grid
    STATISTIC = "statistic"  # the published value is another statistic than the table's
    SENSITIVE = "sensitive"  # its verdict depends on an assumption
    OTHER = "other"


@dataclass(frozen=True, order=True)
class Mark:
    """A remark on a cell; cells with equal marks share one footnote."""

    kind: MarkKind
    text: str


@dataclass(frozen=True)
class SeedValues:
    """The values of a cell by one statistic (last, best, ...), one a seed, in order of seed."""

    statistic: str
    values: tuple[float, ...]

    @property
    def n(self) -> int:
        """The number of seeds."""
        return len(self.values)

    @property
    def mean(self) -> float | None:
        """The mean over seeds, None without any."""
        return mean_std(self.values)[0] if self.values else None

    @property
    def std(self) -> float | None:
        """The sample standard deviation (ddof 1), None below two seeds."""
        return mean_std(self.values)[1] if self.values else None


@dataclass(frozen=True)
class HyperparameterChoice:
    """How a slot's value was chosen among the combinations of a grid; the judge adds ``bias``.

    ``chosen`` is what is printed ("alpha = 0.3, temperature = 5"); ``on`` is "test" (as the
    thesis did; flatters) or "split" (held-out training images). ``bias`` is at most how much
    the choice flatters, in points.
    """

    chosen: str
    on: Literal["test", "split"]
    candidates: int
    bias: float | None = None


class CellCost(NamedTuple):
    """What its runs took and what their predictions do, None if results do not tell.

    ``seconds``: of an epoch, the teacher's pass included, whoever shared it, mean over seeds;
    ``parameters`` and ``multiply_adds``: of one prediction.
    """

    seconds: float | None = None
    parameters: int | None = None
    multiply_adds: int | None = None


@dataclass(frozen=True)
class GridCell:
    """One (row, column, metric).

    ``samples``: the table's protocol first, then every other statistic the runs hold.
    ``seeds``: those of ``values``, in their order; ``planned``: how many the table wants.
    ``exact``: one public checkpoint evaluated, so there is no seed noise on either side.
    ``published`` is the table's own entry, with what other sources print. ``expected_miss``: that
    it is known not to reproduce, and what comes out instead. ``overrides``: "recipe.epochs = 2"
    and so on. ``runs``: run keys. ``teachers``: of which teacher each seed of ``values`` learned;
    ``own_teacher``: trained here, not the paper's; ``cost`` of trained runs; ``incomparable``:
    other data, another recipe or a file of the user's own, so that nothing is said about the
    published value. The judge adds
    ``comparisons`` (the published statistic, or, if it is unstated, the one that the table
    speaks for or its protocol, and then the others), ``judgement`` and ``interval``, the 95 %
    interval of the mean by the noise that the verdict uses.
    """

    state: State
    samples: tuple[SeedValues, ...] = ()
    seeds: tuple[int, ...] = ()
    planned: int = 0
    exact: bool = False
    diverged_seeds: tuple[int, ...] = ()
    failed_seeds: tuple[int, ...] = ()
    published: Published | None = None
    expected_miss: ExpectedMiss | None = None
    overrides: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()
    selection: HyperparameterChoice | None = None
    runs: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()
    own_teacher: bool = False
    cost: CellCost | None = None
    incomparable: bool = False
    comparisons: tuple[Comparison, ...] = ()
    judgement: Judgement | None = None
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Hold that values and seeds go together."""
        for sample in self.samples:
            assert len(sample.values) == len(self.seeds), (sample, self.seeds)

    def sample(self, statistic: str) -> SeedValues | None:
        """Return the values by a statistic, None if there are none.

        An evaluated checkpoint has one value, whatever the statistic.
        """
        if self.exact and self.values:
            return self.samples[0]
        return next((s for s in self.samples if s.statistic == statistic and s.values), None)

    @property
    def values(self) -> tuple[float, ...]:
        """The values by the table's protocol."""
        return self.samples[0].values if self.samples else ()

    @property
    def n(self) -> int:
        """The number of seeds with a value."""
        return len(self.values)

    @property
    def speaks(self) -> bool:
        """Whether it says something about the paper: values of the table's own runs."""
        return bool(self.values) and not self.overrides and not self.incomparable

    @property
    def mean(self) -> float | None:
        """The mean over seeds by the table's protocol."""
        return self.samples[0].mean if self.samples else None

    @property
    def std(self) -> float | None:
        """The standard deviation over seeds by the table's protocol."""
        return self.samples[0].std if self.samples else None

    @property
    def published_value(self) -> float | None:
        """The published number; None if there is none or it is unknown."""
        return self.published.value if self.published else None

    @property
    def delta(self) -> float | None:
        """Ours - published, by the statistic of the first comparison."""
        return self.comparisons[0].delta if self.comparisons else None

    @property
    def verdict(self) -> Verdict | None:
        """The verdict; None while there is nothing of ours to compare."""
        if self.judgement is not None:
            return self.judgement.verdict
        if self.state is State.REFERENCE:
            return None
        if self.published_value is None:
            return Verdict.NOT_PUBLISHED
        return Verdict.DIVERGED if self.state is State.DIVERGED else None

    @property
    def seeds_needed(self) -> int | None:
        """How many further seeds would settle an underpowered cell."""
        return self.comparisons[0].seeds_needed if self.comparisons else None


@dataclass(frozen=True)
class GridColumn:
    """One column: a (teacher, student) pair as a rule, by model names and as printed.

    ``group`` heads neighbouring columns (same and different architectures); ``dataset`` is empty
    if it is not known.
    """

    name: str
    teacher: str
    student: str
    teacher_label: str
    student_label: str
    group: str = ""
    dataset: str = ""


@dataclass(frozen=True)
class GridRow:
    """One row: ``info`` holds extra printed fields in order (params, the row's own teacher).

    ``teacher`` and ``student`` are models of the row's own; empty if it has the column's.
    """

    name: str
    kind: RowKind = "method"
    group: str = ""
    counts_for_best: bool = True
    info: tuple[tuple[str, str], ...] = ()
    teacher: str = ""
    student: str = ""

    @property
    def competes(self) -> bool:
        """Whether it may be the best of a column: trained students, unless the table says no."""
        return self.counts_for_best and self.kind in ("student", "method")


CellKey = tuple[str, str, str]  # row, column, metric


@dataclass(frozen=True)
class Grid:
    """A table: rows x columns x metrics, and what was said and found about it.

    A (row, column, metric) that ``cells`` does not hold is not part of the table (printed as a
    dash). ``margin``: how far a reproduced value may be off, points, by metric if it differs.
    ``unstated_n``: how many runs a published value without an n is assumed to be. ``max_seeds``:
    up to how many seeds one may look (see `looks.py`); ``max_divergence``: which part of a cell's
    seeds may diverge; ``chance``: the accuracy of a diverged run, as printed. ``footnotes`` are
    the table's own. ``made_by`` names command and commit. ``ranks``, ``claim_results``, ``wholes``
    and ``noise`` are the judge's.
    """

    name: str
    title: str
    source: str
    metrics: tuple[str, ...]
    protocol: str
    columns: tuple[GridColumn, ...]
    rows: tuple[GridRow, ...]
    cells: Mapping[CellKey, GridCell] = field(default_factory=dict)
    dataset: str = ""
    show_as: Literal["accuracy", "error"] = "accuracy"
    protocol_note: str = ""
    margin: float = 0.5
    margins: tuple[tuple[str, float], ...] = ()
    max_seeds: int | None = None
    max_divergence: float = 0.0
    chance: tuple[tuple[str, float], ...] = ()
    unstated_n: UnstatedN = field(default_factory=UnstatedN)
    decimals: int = 2
    footnotes: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    made_by: str = ""
    ranks: tuple[Ranking, ...] = ()
    claim_results: tuple[ClaimResult, ...] = ()
    noise: tuple[str, ...] = ()
    wholes: tuple[WholeTable, ...] = ()

    def __post_init__(self) -> None:
        """Hold that names are unique and that every cell has its place."""
        rows, columns = [r.name for r in self.rows], [c.name for c in self.columns]
        assert len(set(rows)) == len(rows), rows
        assert len(set(columns)) == len(columns), columns
        places = {(r, c, m) for r in rows for c in columns for m in self.metrics}
        assert set(self.cells) <= places, set(self.cells) - places

    def cell(self, row: str, column: str, metric: str) -> GridCell | None:
        """Return a cell, None if the table has none."""
        return self.cells.get((row, column, metric))

    def margin_of(self, metric: str) -> float:
        """Return the margin of a metric."""
        return dict(self.margins).get(metric, self.margin)

    def at_chance(self, metric: str) -> float:
        """Return what a run that diverged is worth, as printed."""
        worst = 0.0 if self.higher_is_better else 100.0
        return dict(self.chance).get(metric, worst)

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher printed number is the better one."""
        return self.show_as == "accuracy"

    @cached_property
    def ordered(self) -> tuple[tuple[CellKey, GridCell], ...]:
        """All cells, by row, column and metric as the table lists them."""
        keys = ((r.name, c.name, m) for r in self.rows for c in self.columns for m in self.metrics)
        return tuple((key, self.cells[key]) for key in keys if key in self.cells)

    @property
    def has_published(self) -> bool:
        """Whether any cell has a published value."""
        return any(cell.published_value is not None for cell in self.cells.values())


def as_shown(accuracy: float, show_as: Literal["accuracy", "error"]) -> float:
    """Return an accuracy in percent as the table prints it."""
    return accuracy if show_as == "accuracy" else 100.0 - accuracy
