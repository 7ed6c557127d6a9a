"""All comparisons of a table as arrays, and what they show: the arithmetic behind every verdict.

:class:`Cells` holds K published cells; a leading axis, if there is one, holds simulated
tables, so that a simulation of thousands of tables is one call and the figures of
docs/verdicts.md come from the very code that judges. Each cell has R readings: the statistics
that its published value may be (``last``, ``best``), those that the source leaves open, and each
reading two numbers of published runs, one and the table's assumption, if none is stated.
A reading with a number of runs is a hypothesis; :func:`weigh` tests under each of them.

A *miss* has to be one under every admissible hypothesis, on one side (an intersection-union
test: R. L. Berger, 1982, Technometrics 24, who shows that each may then be tested at the full
level), after Holm's correction over all published cells of the table, run or not. A *match*
(the interval within the margin) likewise. Zero, "more than the margin" and "within the margin"
are the three sides of J. J. Goeman, A. Solari and T. Stijnen (2010, Statistics in Medicine 29).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from benchmark.results.asked import PlausibleReadings, ask
from benchmark.results.cells import Cells as Cells
from benchmark.results.cells import Flags
from benchmark.results.looks import information, repeated_level, repeated_p
from benchmark.results.priors import table_scale
from benchmark.results.statistics import (
    LEVEL,
    MEDIAN_VARIANCE,
    Floats,
    Noise,
    holm,
    joint_df,
    noise,
    published_noise,
    side,
)
from benchmark.results.stumbles import fallen, without


class Tested(NamedTuple):
    """The tests of every hypothesis, [..., K, R, 2]: one published run (0), as assumed (1).

    Where n is stated both are the same. ``p`` is two-sided and for one family of one; ``low``
    and ``high`` hold at all looks together; ``time`` is the information time.
    """

    delta: Floats
    error: Floats
    df: Floats
    p: Floats
    low: Floats
    high: Floats
    time: Floats
    level: Floats


class Weighed(NamedTuple):
    """What the cells show, [..., K]; by hypothesis [..., K, R, 2] if told.

    ``within``, ``side`` (-1, 0, 1) by hypothesis. ``reproduced``: within under all that are
    admissible; ``miss`` -1, 0, 1; ``far``: off by more than the margin; ``open_``: the
    admissible hypotheses disagree. ``p``: Holm's p of the miss. ``answers``: what the table says
    of readings. ``considered`` by hypothesis: those that are left. ``steady``: the tests
    without the seeds that ``fell`` [..., K, N] behind (see `stumbles.py`).
    """

    tested: Tested
    within: Flags
    side: NDArray[np.int_]
    considered: Flags
    reproduced: Flags
    miss: NDArray[np.int_]
    far: Flags
    conditional: Flags
    p: Floats
    answers: PlausibleReadings
    ours: Noise
    scale: Floats
    steady: Tested
    fell: Flags


def weigh(cells: Cells, level: float = LEVEL, spread: float = 1.0) -> Weighed:
    """Return what the cells show; ``spread`` widens what is known of the noise."""
    scale = table_scale(cells.stds[..., 0], cells.n, cells.sigma[:, 0], cells.exact)
    tested, ours = _test(cells, np.maximum(scale, 1.0) * spread, level)
    fell = fallen(cells, np.maximum(scale, 1.0))
    calm, steady = cells, tested
    if fell.any():
        calm = without(cells, fell)
        steady, _ = _test(calm, np.maximum(scale, 1.0) * spread, level)
    answers = ask(calm, steady.delta[..., 0], steady.error[..., 1] ** 2, scale)
    considered = answers.readings[..., None] & answers.runs[..., None, :]
    return _show(cells, tested, considered, answers, ours, scale, level)._replace(
        steady=steady, fell=fell
    )


def _test(cells: Cells, scale: Floats, level: float) -> tuple[Tested, Noise]:
    sigma = cells.sigma * scale[..., None, None]
    ours = side(cells.means, cells.n[..., None], cells.stds, median=cells.median)
    known = noise(ours, sigma, cells.df[:, None])
    unstated = np.isnan(cells.value_n)
    runs = np.stack(
        [
            np.where(unstated, 1.0, cells.value_n),
            np.where(unstated, float(cells.assumed), cells.value_n),
        ],
        axis=-1,
    )
    runs = np.where(cells.exact[:, None], np.inf, runs)[..., None, :]  # [..., K, 1, 2]
    theirs = side(
        cells.value[..., None, None],
        runs,
        np.where(unstated, np.nan, cells.value_std)[..., None, None],
    )
    spread = Noise(known.sigma[..., None], known.df[..., None], known.own[..., None])
    their = published_noise(theirs, spread, sigma[..., None], cells.df[:, None, None])
    mine = known.sigma**2 * np.where(cells.median & (cells.n[..., None] > 2), MEDIAN_VARIANCE, 1)
    factor = np.where(cells.median[..., None] & (runs > 2), MEDIAN_VARIANCE, 1.0)
    b = np.where(np.isinf(runs), 0.0, their.sigma**2 * factor / runs)
    c = (cells.tau**2 * (1 / np.maximum(cells.teachers, 1) + 1))[..., None, None]
    seeds = np.where(cells.exact, np.inf, cells.n)[..., None, None]
    most = np.where(cells.exact, np.inf, np.maximum(cells.most, cells.n))[..., None, None]

    def variance(count: Floats) -> Any:
        return mine[..., None] / count + b + c

    total = variance(seeds)
    df = joint_df(
        (mine[..., None] / seeds, np.maximum(spread.df, 1)),
        (b, np.maximum(their.df, 1)),
        (c, np.broadcast_to(np.maximum(cells.tau_df, 1)[..., None, None], c.shape)),
    )
    time = information(total, variance(most))
    last = information(variance(np.maximum(most - 1, 1)), variance(most))
    step = 1 - last
    error = np.sqrt(total)
    delta = ours.centre[..., None] - theirs.centre
    delta, error, df, time, step = np.broadcast_arrays(delta, error, df, time, step)
    quantile = repeated_level(level, time, step)
    with np.errstate(invalid="ignore", divide="ignore"):
        half = np.where(error == 0, 0.0, error * special.stdtrit(df, quantile))
        once = np.where(error == 0, np.nan, 2 * special.stdtr(df, -np.abs(delta) / error))
        p = np.where(cells.n[..., None, None] > 1, repeated_p(once, time, step), 1.0)
        p = np.where(np.isfinite(delta), p, np.nan)
    return Tested(delta, error, df, p, delta - half, delta + half, time, quantile), known


def _show(
    cells: Cells,
    tested: Tested,
    considered: Flags,
    answers: PlausibleReadings,
    ours: Noise,
    scale: Floats,
    level: float,
) -> Weighed:
    alpha = 1 - level
    margin = cells.margin[:, None, None]
    enough = (cells.n > 1)[..., None, None]
    exact = cells.exact[:, None, None]
    within = np.where(
        exact,
        np.abs(tested.delta) <= cells.tolerance[:, None, None] + 1e-9,
        (tested.low > -margin) & (tested.high < margin) & enough,
    )
    up = np.where(tested.delta > 0, tested.p / 2, 1 - tested.p / 2)
    down = np.where(tested.delta > 0, 1 - tested.p / 2, tested.p / 2)

    def worst(p: Floats) -> Floats:
        return np.asarray(np.max(np.where(considered, p, -np.inf), axis=(-2, -1)))

    high, low = worst(up), worst(down)
    union = np.minimum(2 * np.minimum(high, low), 1.0)
    adjusted = holm(union, cells.family)
    # Each hypothesis for itself: what the word would be if it were true.
    each = holm(np.moveaxis(tested.p, -3, -1), cells.family)
    beyond = np.moveaxis(each, -1, -3) <= alpha
    sides = np.where(beyond & ~within & ~exact, np.sign(tested.delta), 0)
    sides = np.where(exact & ~within & np.isfinite(tested.delta), np.sign(tested.delta), sides)
    there = np.isfinite(tested.delta)
    every = np.all(np.where(considered, within, True), axis=(-2, -1)) & np.any(
        considered & there, axis=(-2, -1)
    )
    exactly = np.where(cells.exact & ~every, np.nan_to_num(sides[..., 0, 0]), 0)
    miss = np.where((adjusted <= alpha) & ~every, np.where(high < low, 1, -1), 0)
    miss = np.where(cells.exact, exactly, miss).astype(np.int_)
    far = _far(cells, tested, considered, alpha) & (miss != 0)
    word = np.where(within, 2, sides)
    first = np.max(np.where(considered, word, -9), axis=(-2, -1))
    least = np.min(np.where(considered, word, 9), axis=(-2, -1))
    conditional = (first != least) & (miss == 0) & ~every
    return Weighed(
        tested,
        within,
        sides.astype(np.int_),
        considered,
        every,
        miss,
        far,
        conditional,
        adjusted,
        answers,
        ours,
        scale,
        tested,
        np.zeros(cells.values.shape[:-2] + cells.values.shape[-1:], bool),
    )


def _far(cells: Cells, tested: Tested, considered: Flags, alpha: float) -> Flags:
    """Return which cells are shown to be off by more than the margin."""
    beyond = np.abs(tested.delta) - cells.margin[:, None, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        # At this look an interval needs the quantile `level`: the same strictness for the test.
        strict = special.stdtrit(tested.df, tested.level) / special.stdtrit(
            tested.df, 1 - alpha / 2
        )
        p = 2 * special.stdtr(tested.df, -np.maximum(beyond, 0) / tested.error / strict)
    p = np.where(tested.error == 0, np.where(beyond > 0, 0.0, 1.0), p)
    worst = np.max(np.where(considered, p, -np.inf), axis=(-2, -1))
    worst = np.where(np.isfinite(worst), np.minimum(worst, 1.0), np.nan)
    return np.asarray(holm(worst, cells.family) <= alpha)
