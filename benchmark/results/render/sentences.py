"""What is said of a table: verdicts in words, one sentence for the whole, ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from benchmark.base.words import count
from benchmark.results.costs import RowCost
from benchmark.results.found import Pairwise, Shift
from benchmark.results.grid import CellKey, Comparison, Grid, GridCell, Ranking, State, Verdict
from benchmark.results.render.numbers import fixed, metric_label
from benchmark.results.statistics import MAX_SEEDS

# What a verdict means, for legends; the delta's sign already tells above from below.
LEGEND = {
    Verdict.REPRODUCED: "the interval of the difference lies within {margin:g} points",
    Verdict.ABOVE: "higher than published beyond noise, Holm-corrected over the table",
    Verdict.BELOW: "lower than published beyond noise, Holm-corrected over the table",
    Verdict.CONDITIONAL: "it depends on what the source does not say: the epoch or the number of "
    "runs, as spelt out",
    Verdict.UNDERPOWERED: "undecided: the interval is not within the margin, and after Holm's "
    "correction over all cells zero is not excluded, even where one interval alone excludes it; "
    "+k: so many further seeds settle it with probability 0.8",
    Verdict.DIVERGED: "the finished seeds would reproduce it, but more diverged than allowed",
    Verdict.NOT_COMPARABLE: "other data, another recipe or a teacher's file of the user's own than "
    "published, as its marks say: nothing follows for the published value",
    Verdict.EXPECTED_MISS: "known not to reproduce; it comes out as other sources report",
    Verdict.UNEXPECTED_HIT: "known not to reproduce, but here it does",
}
COST_NOTE = (
    "Parameters and multiply-adds of one prediction; training in the plain student's time for as"
    " many epochs, the teacher's pass included, as measured."
)


def cell_words(grid: Grid, key: CellKey) -> str:
    """Return a cell's verdict in words: what it depends on, or how many seeds it asks for."""
    cell = grid.cells[key]
    judged = cell.judgement
    if judged is None or not cell.comparisons:
        return str(cell.verdict or "")
    if judged.verdict is Verdict.CONDITIONAL:
        return judged.condition
    if judged.verdict is Verdict.UNDERPOWERED and (cell.diverged_seeds or cell.exact):
        return str(judged.verdict)
    words = verdict_words(cell.comparisons[0])
    far = judged.far and judged.verdict in (Verdict.ABOVE, Verdict.BELOW)
    return f"{words} by more than {grid.margin_of(key[2]):g}" if far else words


def verdict_words(found: Comparison) -> str:
    """Return a comparison's verdict with what it asks for, in words."""
    if found.verdict is not Verdict.UNDERPOWERED:
        return str(found.verdict)
    if found.seeds_needed is None:
        return f"{found.verdict} (not even {MAX_SEEDS} further seeds surely settle it)"
    return f"{found.verdict} (+{count(found.seeds_needed, 'seed')})"


def summary(grid: Grid) -> str:
    """Return one line: how many cells have which verdict, and how many have no value yet.

    Cells of runs with overrides are counted apart.
    """
    filled = [cell for _, cell in grid.ordered if cell.values]
    counts = _verdict_counts(cell for cell in filled if not cell.overrides)
    states = [c.state for _, c in grid.ordered if not c.values]
    waiting = Counter[State](state for state in states if state is not State.REFERENCE)
    counts += [f"{waiting[s]} {s}" for s in State if waiting[s]]
    apart = _verdict_counts(cell for cell in filled if cell.overrides)
    parts = [", ".join(counts)] if counts else []
    parts += [f"with overrides: {', '.join(apart)}"] if apart else []
    return "; ".join(parts) if parts else "no cells"


def _verdict_counts(cells: Iterable[GridCell]) -> list[str]:
    found = Counter(cell.verdict for cell in cells)
    return [f"{found[verdict]} {verdict}" for verdict in Verdict if found[verdict]]


def headline(grid: Grid) -> list[str]:
    """Return one sentence a metric: how much of the table is right, and what is off as a whole."""
    found = []
    for whole in grid.wholes:
        margin = grid.margin_of(whole.metric)
        name = f"{metric_label(whole.metric)}: " if len(grid.metrics) > 1 else ""
        said = (
            f"{name}{whole.reproduced} of {whole.judged} within {margin:g} ({whole.expected:.0f}"
            f" expected if all are right; if all were off by {margin:g},"
            f" {whole.by_chance:.1f} would pass falsely)"
        )
        if whole.mean is None:
            said += "; too little has run for a mean shift"
        else:
            said += f"; mean shift {_shift_words(grid, whole.mean)}"
            off = [f"{s.kind} {s.name} {fixed(s.shift, 2, sign=True)}" for s in whole.off if s.name]
            whole_off = any(s.kind == "table" for s in whole.off)
            parts = ["the whole table"] if whole_off else []
            said += f"; off: {', '.join(parts + off) or 'nothing'}"
        if whole.left_out:
            said += f"; {count(whole.left_out, 'cell')} of open statistic left out"
        if whole.fallen:
            fallen = count(whole.fallen, "seed")
            said += f"; {fallen} far below the others of a cell not in the shifts"
        found.append(said)
    return found


def _shift_words(grid: Grid, shift: Shift) -> str:
    ends = ", ".join(fixed(x, grid.decimals, sign=True) for x in (shift.low, shift.high))
    return f"{fixed(shift.shift, grid.decimals, sign=True)} [{ends}]"


def shouted(grid: Grid) -> list[str]:
    """Return a line for every unexpected hit: a value said not to reproduce that does."""
    return [
        f"UNEXPECTED HIT: {row}, {column}, {metric_label(metric)}: {cell.expected_miss.why}"
        for (row, column, metric), cell in grid.ordered
        if cell.verdict is Verdict.UNEXPECTED_HIT and cell.expected_miss
    ]


def rank_words(ranking: Ranking) -> str:
    """Return what an average rank means, in one sentence or two."""
    words = (
        f"Over {count(len(ranking.columns), 'column')} of {count(ranking.teachers, 'teacher')};"
        " columns that share a teacher count once."
    )
    if ranking.critical_difference is None:
        words += " Too few teachers to say which ranks differ."
    else:
        words += (
            f" Two ranks differ where they are more than {ranking.critical_difference:.2f} apart"
            " (Nemenyi, 5 %)."
        )
    if ranking.p is not None:
        words += f" Any difference at all: Friedman by Iman and Davenport's F, p = {ranking.p:.2g}."
    if ranking.left_out:
        words += f" Left out for missing values: {', '.join(ranking.left_out)}."
    if ranking.overridden:
        words += f" Cells with overrides, which count as missing: {ranking.overridden}."
    return words


def pair_words(pair: Pairwise) -> list[str]:
    """Return the best row against another: gain and probability of improvement with intervals."""
    gain, low, high = (fixed(x, 2, sign=True) for x in (pair.gain, pair.low, pair.high))
    better, worst, most = (
        f"{x:.2f}" for x in (pair.improvement, pair.improvement_low, pair.improvement_high)
    )
    return [f"{pair.row} - {pair.other}", f"{gain} [{low}, {high}]", f"{better} [{worst}, {most}]"]


def legend(grid: Grid) -> list[tuple[Verdict, str]]:
    """Return the verdicts that the table has, each with what it means."""
    used = {c.verdict for _, cell in grid.ordered for c in cell.comparisons}
    used |= {cell.verdict for _, cell in grid.ordered if cell.comparisons and cell.verdict}
    return [(v, LEGEND[v].format(margin=grid.margin)) for v in Verdict if v in used and v in LEGEND]


def cost_words(found: RowCost) -> str:
    """Return what a row costs: "0.08 M, 0.8 MMAC, 1.9x", as far as it is known."""
    cost = found.cost
    words = []
    if cost.parameters is not None:
        words.append(f"{cost.parameters / 1e6:.2f} M")
    if cost.multiply_adds is not None:
        million = cost.multiply_adds / 1e6
        words.append(f"{million / 1e3:.2f} GMAC" if million >= 1000 else f"{million:.1f} MMAC")
    if found.epochs is not None:
        words.append(f"{found.epochs:.2f}x")
    return ", ".join(words) or "-"
