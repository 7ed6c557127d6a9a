"""How often verdicts are wrong: whole tables simulated in worlds that differ from the model.

    python -m perf.verdict_worlds                 # all figures of docs/verdicts.md
    python -m perf.verdict_worlds --tables 500    # fewer tables, faster

The layout (which cell states what) is that of a real table file; the numbers are made up with
fixed seeds, and judged by the code that judges real runs. A world says what is true:

- the seed spread of a cell is drawn around its prior (18 degrees of freedom) times ``spread``;
- a published value is the mean of its stated number of runs, or of ``unstated_runs``;
- a value without a stated epoch is a ``printed`` ("best" is 0.31 above last, spread 0.78 of it);
- ``between``: the spread of teachers, ours not being the paper's;
- ``stumbling``: the part of our runs that end 1 to 6 points low without diverging.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import special

from benchmark.results.evidence import Cells, Weighed, weigh
from benchmark.results.judge import seeds_of
from benchmark.results.looks import default_most
from benchmark.results.priors import BEST_FACTOR, PRIOR_DF, TAU_DF, TAU_PART, cell_prior
from benchmark.results.statistics import MAX_SEEDS
from benchmark.results.twoway import parts_of
from benchmark.results.whole import table_parts
from benchmark.table.load import load_table

GAIN = 0.31  # best minus last


class World(NamedTuple):
    """What is true; see the module's text."""

    spread: float = 1.0
    unstated_runs: int = 3
    printed: str = "last"
    between: float = 0.0
    stumbling: float = 0.0


WORLDS = {
    "as the model says": World(),
    "spread half the prior": World(spread=0.5),
    "spread 1.25 times the prior": World(spread=1.25),
    "spread twice the prior": World(spread=2.0),
    "one published run where unstated": World(unstated_runs=1),
    "best printed where unstated": World(printed="best"),
    "between-teacher spread 0.2": World(between=0.2),
    "2 % of runs stumble": World(stumbling=0.02),
    "one run and best where unstated": World(unstated_runs=1, printed="best"),
}


class Layout(NamedTuple):
    """The published cells of a table: indices, priors and what is stated, [K]."""

    row: np.ndarray
    column: np.ndarray
    teacher: np.ndarray  # the column's teacher, by number
    sigma: np.ndarray  # of last
    stated_n: np.ndarray  # nan: not
    std: np.ndarray  # whether one is printed
    statistic: np.ndarray  # last, best, unstated
    exact: np.ndarray
    taught: np.ndarray
    assumed: int
    margin: float


def layout(name: str = "cifar100", *, statistic: str | None = None, filled: bool = False) -> Layout:
    """Return a table's layout; ``statistic`` makes all cells state it.

    ``filled``: cells whose value is not known have one too, which states nothing (143 cells in
    the CIFAR-100 table).
    """
    table = load_table(name)
    metric = table.metrics[0]
    teachers = list(dict.fromkeys(column.teacher for column in table.columns))
    found = []
    for i, row in enumerate(table.rows):
        for j, column in enumerate(table.columns):
            entry = table.published_value(row.name, column.name, metric)
            if entry is None or row.reference or (entry.value is None and not filled):
                continue
            student = row.student or column.student
            prior = cell_prior(student, column.dataset or table.dataset, metric)
            said = statistic or entry.statistic
            found.append(
                (
                    i,
                    j,
                    teachers.index(column.teacher),
                    prior.sigma,
                    entry.n or np.nan,
                    entry.std is not None and entry.n is not None,
                    said if said in ("best", "unstated") else "last",
                    row.of == "teacher",
                    row.of is None,
                )
            )
    arrays = [np.array(field) for field in zip(*found, strict=True)]
    return Layout(*arrays, table.unstated_n.runs, table.margin)  # type: ignore[call-arg]


def simulate(
    where: Layout,
    world: World,
    seeds: int,
    tables: int,
    rng: np.random.Generator,
    off: np.ndarray | float = 0.0,
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return our runs by last and best [S, K, n] and the published side, [S, K].

    ``off`` (points, broadcast to [S, K]) is added to ours.
    """
    k = len(where.row)
    sigma = where.sigma * world.spread * np.sqrt(PRIOR_DF / rng.chisquare(PRIOR_DF, (tables, k)))
    sigma = np.where(where.exact, 0.0, sigma)

    def teachers(one_each: int) -> np.ndarray:
        if not world.between:
            return np.zeros((tables, k))
        shift = rng.normal(0, world.between, (tables, where.teacher.max() + 1))
        return np.where(where.taught, shift[:, where.teacher], 0.0) * one_each

    noise = rng.normal(size=(tables, k, seeds)) * sigma[..., None]
    last = 70 + np.asarray(off)[..., None] + noise + teachers(1)[..., None]
    # The gain of the best epoch is larger for runs whose last one was unlucky.
    best = last + np.where(where.exact[:, None], 0.0, GAIN) - (1 - BEST_FACTOR) * noise
    if world.stumbling:
        fallen = rng.random(noise.shape) < world.stumbling
        fall = np.where(where.exact[:, None], 0.0, fallen * rng.uniform(1, 6, noise.shape))
        last, best = last - fall, best - fall
    runs = np.where(np.isnan(where.stated_n), world.unstated_runs, where.stated_n)
    is_best = np.where(where.statistic == "unstated", world.printed, where.statistic) == "best"
    own = sigma * np.where(is_best, BEST_FACTOR, 1.0)
    value = 70 + np.where(is_best & ~where.exact, GAIN, 0.0) + teachers(1)
    value = value + rng.normal(size=(tables, k)) * own / np.sqrt(runs)
    spread = np.where(
        where.std & (runs > 1),
        own
        * np.sqrt(rng.chisquare(np.maximum(runs - 1, 1), (tables, k)) / np.maximum(runs - 1, 1)),
        np.nan,
    )
    noise_of_both = np.sqrt(sigma**2 / seeds + own**2 / runs)
    return last, best, {"value": value, "std": spread, "true_error": noise_of_both}


def to_cells(
    where: Layout,
    last: np.ndarray,
    best: np.ndarray,
    theirs: dict[str, np.ndarray],
    world: World,
    planned: int,
) -> Cells:
    """Return what is to be judged."""
    n = last.shape[-1]
    means = np.stack([last.mean(-1), best.mean(-1)], axis=-1)
    stds = np.full(means.shape, np.nan)
    if n > 1:
        stds = np.stack([last.std(-1, ddof=1), best.std(-1, ddof=1)], axis=-1)
    k = len(where.row)
    admissible = np.stack([where.statistic != "best", where.statistic != "last"], axis=-1)
    admissible[where.exact] = [True, False]
    # The first reading is the one that a cell with a single one has.
    flip = ~admissible[:, 0]
    order = np.where(flip[:, None], [1, 0], [0, 1])
    means = np.take_along_axis(means, np.broadcast_to(order, means.shape), -1)
    stds = np.take_along_axis(stds, np.broadcast_to(order, stds.shape), -1)
    values = np.stack([last, best], axis=-2)
    values = np.take_along_axis(values, np.broadcast_to(order[..., None], values.shape), -2)
    sigma = where.sigma[:, None] * np.where(order == 1, BEST_FACTOR, 1.0)
    tau = np.where(where.taught, TAU_PART * where.sigma, 0.0) if world.between else np.zeros(k)
    return Cells(
        means=means,
        stds=stds,
        median=np.zeros((k, 2), bool),
        n=np.full(k, float(n)),
        most=np.full(k, float(default_most(planned))),
        admissible=np.take_along_axis(admissible, order, -1),
        value=theirs["value"],
        value_std=theirs["std"],
        value_n=where.stated_n,
        assumed=where.assumed,
        sigma=sigma,
        df=np.full(k, PRIOR_DF),
        source=where.row,
        column=where.column,
        exact=where.exact,
        tolerance=np.full(k, 0.05),
        margin=np.full(k, where.margin),
        tau=tau,
        tau_df=np.full(k, TAU_DF),
        teachers=np.ones(k),
        family=k,
        values=values,
    )


class Rates(NamedTuple):
    """Over tables: any false miss; over cells: reproduced, conditional."""

    any_miss: float
    reproduced: float
    conditional: float


def rates(shown: Weighed) -> Rates:
    """Return how often exactly right tables are judged wrong, and cells right."""
    return Rates(
        float(np.mean(np.any(shown.miss != 0, axis=-1))),
        float(np.mean(shown.reproduced)),
        float(np.mean(shown.conditional)),
    )


def right_tables(
    where: Layout,
    world: World,
    seeds: int,
    tables: int,
    *,
    planned: int | None = None,
    key: int = 1,
) -> Rates:
    """Return the rates of exactly right tables at so many seeds."""
    rng = np.random.default_rng([key, seeds])
    last, best, theirs = simulate(where, world, seeds, tables, rng)
    return rates(weigh(to_cells(where, last, best, theirs, world, planned or seeds)))


class Pointed(NamedTuple):
    """How often a right table is pointed at, and a row, column or table off by ``off`` named."""

    right: float
    row: float
    column: float
    table: float


def pointed(
    where: Layout,
    world: World,
    seeds: int,
    tables: int,
    off: float = 0.3,
    key: int = 3,
    *,
    right_alone: bool = False,
) -> Pointed:
    """Return how often the table as a whole points at what is off, and at nothing where none.

    ``right_alone``: the first figure alone, the others are nan.
    """
    rng = np.random.default_rng([key, seeds])
    noisy = ~where.exact
    if world.between:
        noisy &= where.taught  # the others do not share the teachers' spread
    found = []
    for kind in ("right",) if right_alone else ("right", "row", "column", "table"):
        index = {"row": where.row, "column": where.column}.get(kind, np.zeros_like(where.row))
        chosen = rng.choice(np.unique(index[noisy]), tables)
        hit = (index == chosen[:, None]) & noisy & (kind != "right")
        shift = np.where(hit, off * rng.choice([-1.0, 1.0], (tables, 1)), 0.0)
        last, best, theirs = simulate(where, world, seeds, tables, rng, shift)
        cells = to_cells(where, last, best, theirs, world, seeds)
        parts = table_parts(cells, weigh(cells), noisy, where.row, where.teacher)
        assert parts is not None
        named = parts.p <= 0.05
        place = {
            "right": np.zeros(tables, int),
            "table": np.zeros(tables, int),
            "row": 1 + np.searchsorted(parts.rows, chosen),
            "column": 1 + len(parts.rows) + np.searchsorted(parts.columns, chosen),
        }[kind]
        one = named.any(axis=1) if kind == "right" else named[np.arange(tables), place]
        found.append(float(one.mean()))
    return Pointed(*found, *[float("nan")] * (4 - len(found)))


def ceiling(
    where: Layout, world: World, seeds: int, tables: int, off: float = 0.3, key: int = 3
) -> Pointed:
    """Return what nobody could exceed who tests as many parts: the noise of every cell is known.

    Weighted means of one row, column or table that is off, normal, with Holm's first step over
    all parts; runs that stumble and teachers are left out, so that it is a bound for them too.
    """
    rng = np.random.default_rng([key, seeds])
    noisy = ~where.exact
    calm = world._replace(stumbling=0.0, between=0.0)
    _, _, theirs = simulate(where, calm, seeds, tables, rng)
    weight = np.where(noisy, 1 / theirs["true_error"].clip(1e-9) ** 2, 0.0)
    design, told, rows, columns = parts_of(where.row[noisy], where.column[noisy])
    information = (design.T * weight[:, None, noisy]) @ design
    variance = ((told @ np.linalg.inv(information)) * told).sum(axis=-1)
    needed = special.ndtri(1 - 0.025 / variance.shape[-1])
    # What is off lies against the mean of the table, which it moves with it.
    sizes = off * np.repeat(
        [1, 1 - 1 / len(rows), 1 - 1 / len(columns)], [1, len(rows), len(columns)]
    )
    power = special.ndtr(sizes / np.sqrt(variance) - needed).mean(axis=0)
    row, column = np.split(power[1:], [len(rows)])
    return Pointed(0.05, float(row.mean()), float(column.mean()), float(power[0]))


def looked_at_always(
    where: Layout,
    world: World,
    planned: int,
    tables: int,
    off: float = 0.0,
    key: int = 2,
    *,
    row: bool = False,
) -> tuple[float, float]:
    """Return any false miss, and cells reproduced at any look: looks after every seed.

    From one seed to the most, by the same runs; ``off`` is added to a tenth of the cells, or to a
    whole ``row`` that does not state its epoch, up or down, and it is these whose false
    "reproduced" are counted.
    """
    rng = np.random.default_rng([key, planned])
    odd = (rng.random((tables, len(where.row))) < (0.1 if off else 0.0)) & ~where.exact
    signs = rng.choice([-1.0, 1.0], odd.shape)
    if row:
        silent = (where.statistic == "unstated") & ~where.exact
        odd = (where.row == rng.choice(np.unique(where.row[silent]), (tables, 1))) & silent
        signs = signs[:, :1]
    shift = np.where(odd, off * signs, 0.0)
    most = default_most(planned)
    last, best, theirs = simulate(where, world, most, tables, rng, shift)
    missed = np.zeros(odd.shape, bool)
    passed = np.zeros(odd.shape, bool)
    for n in range(1, most + 1):
        shown = weigh(to_cells(where, last[..., :n], best[..., :n], theirs, world, planned))
        missed |= (shown.miss != 0) & ~odd
        passed |= shown.reproduced
    return float(missed.any(axis=-1).mean()), float(passed[odd].mean()) if off else float("nan")


def settled_as_promised(
    where: Layout, world: World, seeds: int, tables: int, key: int = 4
) -> list[bool]:
    """Return of each cell that was promised to settle after k further seeds whether it did.

    A tenth of the cells is truly off by 0.5, so that both ways of settling occur.
    """
    rng = np.random.default_rng([key, seeds])
    off = np.where((rng.random(where.row.shape) < 0.1) & ~where.exact, 0.5, 0.0)
    most = seeds + MAX_SEEDS
    kept: list[bool] = []
    for _ in range(tables):
        last, best, theirs = simulate(where, world, most, 1, rng, off)
        cells = to_cells(where, last[0, :, :seeds], best[0, :, :seeds], _one(theirs), world, seeds)
        needed = seeds_of(cells, weigh(cells))
        for more in np.unique(needed[np.isfinite(needed)]).astype(int):
            n = seeds + more
            later = to_cells(where, last[0, :, :n], best[0, :, :n], _one(theirs), world, seeds)
            shown = weigh(later._replace(most=np.maximum(later.most, n)))
            kept += (shown.reproduced | (shown.miss != 0))[needed == more].tolist()
    return kept


def _one(theirs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value[0] for name, value in theirs.items()}


def report(tables: int) -> Iterator[str]:
    """Yield the figures of docs/verdicts.md."""
    where = layout(filled=True)
    yield f"{len(where.row)} cells of cifar100; {tables} tables a figure"
    yield "any false miss in an exactly right table, % (reproduced, conditional, % of cells)"
    for name, world in WORLDS.items():
        line = f"  {name:34}"
        for seeds in (2, 3, 5, 10):
            found = right_tables(where, world, seeds, tables)
            line += (
                f"  n={seeds}: {100 * found.any_miss:4.1f}"
                f" ({100 * found.reproduced:2.0f}, {100 * found.conditional:2.0f})"
            )
        yield line
    yield "looks after every seed: any false miss, %; false reproduced at a difference of 0.5, %,"
    yield "  of single cells, and of a whole row that does not state its epoch"
    for name, world in WORLDS.items():
        line = f"  {name:34}"
        for planned in (3, 5):
            missed, _ = looked_at_always(where, world, planned, tables // 2)
            _, passed = looked_at_always(where, world, planned, tables // 4, off=0.5)
            _, rows = looked_at_always(where, world, planned, tables // 2, off=0.5, row=True)
            line += (
                f"  planned {planned}: {100 * missed:4.1f}, {100 * passed:4.2f}, {100 * rows:4.2f}"
            )
        yield line


def report_promises(tables: int) -> Iterator[str]:
    """Yield how many cells are promised to settle after so many seeds, and how many then do."""
    where = layout()
    yield "seeds needed: cells of a table that are promised to settle; of these, which part does"
    for name, world in WORLDS.items():
        line = f"  {name:34}"
        for seeds in (3, 5):
            kept = settled_as_promised(where, world, seeds, tables)
            part = f"{np.mean(kept):.2f}" if len(kept) else " -  "
            line += f"  n={seeds}: {len(kept) / tables:4.1f}, {part}"
        yield line


def report_wholes(tables: int) -> Iterator[str]:
    """Yield how often what is off by 0.3 as a whole is named, all cells stating last."""
    where = layout(statistic="last", filled=True)
    yield "a right table pointed at; a row, a column, the table off by 0.3 named, %"
    for name, world in WORLDS.items():
        line = f"  {name:34}"
        for seeds in (3, 5):
            found = pointed(where, world, seeds, tables)
            line += f"  n={seeds}: " + ", ".join(f"{100 * x:5.1f}" for x in found)
            most = ceiling(where, world, seeds, tables)
            line += f" (at most {100 * most.row:.1f}, {100 * most.column:.1f})"
        yield line


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="How often verdicts are wrong.")
    parser.add_argument("--tables", type=int, default=2000)
    parser.add_argument("--only", choices=("verdicts", "wholes", "promises"))
    arguments = parser.parse_args()
    start = time.perf_counter()
    parts = {"verdicts": report, "wholes": report_wholes, "promises": report_promises}
    for part in [arguments.only] if arguments.only else parts:
        tables = arguments.tables // 8 if part == "promises" else arguments.tables
        for line in parts[part](tables):
            print(line, flush=True)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
