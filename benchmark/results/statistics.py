"""How sure are we: means, intervals, and a test of our value against a published one.

All numbers are in points (percent). The functions work on numpy arrays and broadcast, so a
table, or a simulation of thousands of tables, is one call; no torch. They use scipy.special's
distributions, because importing scipy.stats takes longer than collecting a table.

**Noise, and why a prior.** One cell has one to five seeds, and a standard deviation of three
numbers says little (its 95 % range spans a factor of twelve). What is known beforehand says
more: over hundreds of published CIFAR-100 cells the seed spread hardly depends on the method,
only on the student's family (`priors.py`), and the spread of those spreads is that of a scaled
inverse chi-squared distribution with 18 degrees of freedom. It is conjugate, so our own seeds
update it exactly (the moderated t statistic of Smyth, 2004, Statistical Applications in
Genetics and Molecular Biology 3, equations 3-5):

    variance = (prior_df * prior_sigma**2 + (n - 1) * std**2) / (prior_df + n - 1)

with ``prior_df + n - 1`` degrees of freedom. With one seed this is the prior alone, so n = 1
has an interval too; with thirty it is our own spread. The same holds for the published side:
its printed std, if there is one, updates the same prior. It is a choice in favour of few
seeds and it errs to the wide side: the prior's sigma is the rms of the published spreads, six
per cent above the value that would fit their distribution best.

**When the prior does not hold.** A cell that is far noisier than its family (F test at 1 %)
is judged by its own spread alone, and a published side without a std then gets that spread
too. The check is one-sided: a small spread of three numbers is no evidence for low noise.
`priors.py` makes the same check for a whole table.

**The difference** ours - published has the variance ``v_ours / n_ours + v_theirs / n_theirs``
and Welch-Satterthwaite degrees of freedom, but never more than the better known side has:
both sides lean on one prior, which must not count twice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

LEVEL = 0.95
# The least evidence (one-sided F test) at which a cell's own spread overrules its prior.
CONFLICT_LEVEL = 0.01
# The variance of a median of n normal values over that of their mean: 1 up to n = 2, and
# rising towards pi / 2; the limit is taken throughout, on the safe side.
MEDIAN_VARIANCE = np.pi / 2
MAX_SEEDS = 100

Floats = NDArray[np.float64]


class Prior(NamedTuple):
    """What is known of a cell's seed noise beforehand: ``sigma`` in points, worth ``df``."""

    name: str
    sigma: float
    df: float


class Side(NamedTuple):
    """One side of a comparison; arrays of one shape.

    ``centre`` is the mean over n seeds, or their median where ``median``; ``n`` is infinite
    if there is no noise (one checkpoint evaluated); ``std`` is nan if unknown or n = 1.
    """

    centre: Floats
    n: Floats
    std: Floats
    median: NDArray[np.bool_]


class Noise(NamedTuple):
    """A seed standard deviation (points; nan if nothing is known) and how well it is known.

    ``own`` is true if the prior was absent or overruled.
    """

    sigma: Floats
    df: Floats
    own: NDArray[np.bool_]


class Difference(NamedTuple):
    """left - right in points: its standard error, degrees of freedom, interval and p-value.

    nan if the noise of a side is unknown. Without any noise the interval is the point and
    the p-value nan: there is nothing to test.
    """

    delta: Floats
    error: Floats
    df: Floats
    low: Floats
    high: Floats
    p: Floats


def side(
    centre: ArrayLike, n: ArrayLike, std: ArrayLike = np.nan, *, median: ArrayLike = False
) -> Side:
    """Return a side with its fields broadcast against each other; n as in :class:`Side`."""
    where, many, spread = np.broadcast_arrays(
        np.asarray(centre, np.float64), np.asarray(n, np.float64), np.asarray(std, np.float64)
    )
    return Side(where, many, spread, np.broadcast_to(np.asarray(median, np.bool_), where.shape))


def mean_std(values: ArrayLike) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation (None for one value)."""
    array = np.asarray(values, dtype=np.float64)
    assert array.size > 0, "no values"
    assert np.isfinite(array).all(), values
    return float(array.mean()), float(array.std(ddof=1)) if array.size > 1 else None


def noise(own: Side, prior_sigma: ArrayLike = np.nan, prior_df: ArrayLike = np.nan) -> Noise:
    """Return the seed noise of a side: its own spread, moderated by a prior if one is given.

    See the module's text. The prior is overruled by a spread that it makes improbable.
    """
    sigma0, df0 = np.asarray(prior_sigma, np.float64), np.asarray(prior_df, np.float64)
    counted = np.isfinite(own.std) & (own.n > 1) & np.isfinite(own.n)
    own_df = np.where(counted, own.n - 1, 0.0)
    own_var = np.where(counted, own.std, 0.0) ** 2
    known = np.isfinite(sigma0)
    prior_var, prior_weight = np.where(known, sigma0, 0.0) ** 2, np.where(known, df0, 0.0)
    limit = prior_var * special.fdtri(
        np.maximum(own_df, 1), np.where(known, prior_weight, 1.0), 1 - CONFLICT_LEVEL
    )
    alone = ~known | (counted & (own_var > limit))
    weight = np.where(alone, 0.0, prior_weight)
    df = weight + own_df
    with np.errstate(invalid="ignore"):
        variance = np.where(df > 0, (weight * prior_var + own_df * own_var) / df, np.nan)
    return Noise(np.sqrt(variance), df, alone)


def published_noise(
    theirs: Side, ours: Noise, prior_sigma: ArrayLike = np.nan, prior_df: ArrayLike = np.nan
) -> Noise:
    """Return the noise of a published value: its std, else the prior, else our own cell's.

    Ours is taken, too, where it overruled the prior: their runs are of the same cell.
    """
    found = noise(theirs, prior_sigma, prior_df)
    silent = ~(np.isfinite(theirs.std) & (theirs.n > 1))
    borrow = silent & ours.own
    return Noise(
        np.where(borrow, ours.sigma, found.sigma),
        np.where(borrow, ours.df, found.df),
        found.own,
    )


def difference(
    left: Side, left_noise: Noise, right: Side, right_noise: Noise, level: float = LEVEL
) -> Difference:
    """Return left - right with its interval and two-sided p-value (see the module's text)."""
    a, b = _variance(left, left_noise), _variance(right, right_noise)
    error = np.sqrt(a + b)
    df_a, df_b = np.maximum(left_noise.df, 1), np.maximum(right_noise.df, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        welch = (a + b) ** 2 / (a**2 / df_a + b**2 / df_b)
    # A side without noise (or weight) has no say in how well the noise is known.
    better = np.maximum(np.where(a > 0, df_a, 1.0), np.where(b > 0, df_b, 1.0))
    df = np.fmin(welch, better)
    return _judge_distance(left.centre - right.centre, error, df, level)


def paired_difference(
    differences_mean: ArrayLike,
    n: ArrayLike,
    differences_std: ArrayLike,
    prior_sigma: ArrayLike = np.nan,
    prior_df: ArrayLike = np.nan,
    level: float = LEVEL,
) -> Difference:
    """Return the mean of per-seed differences, moderated as a cell is.

    Two runs of one seed share data order and, for one student, initial weights, so their
    noise may cancel. The prior of a difference assumes that none does (sqrt(2) sigma): seeds
    that go together narrow it by their own evidence.
    """
    own = side(differences_mean, n, differences_std)
    found = noise(own, np.sqrt(2) * np.asarray(prior_sigma, np.float64), prior_df)
    return _judge_distance(own.centre, np.sqrt(_variance(own, found)), found.df, level)


def _variance(one: Side, known: Noise) -> Floats:
    spread = np.where(one.median & (one.n > 2), MEDIAN_VARIANCE, 1.0)
    return np.where(np.isinf(one.n), 0.0, known.sigma**2 * spread / one.n)


def joint_df(*parts: tuple[Floats, Floats]) -> Any:
    """Return the degrees of freedom of a sum of variances (Satterthwaite), at most its best part's.

    Sides lean on one prior, which must not count twice.
    """
    total = sum(variance for variance, _ in parts)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = total**2 / sum(variance**2 / df for variance, df in parts)
    best: Any = 1.0
    for variance, df in parts:
        best = np.maximum(best, np.where(variance > 0, df, 1.0))
    return np.maximum(np.fmin(found, best), 1.0)


def _judge_distance(delta: Floats, error: Floats, df: Floats, level: float) -> Difference:
    delta, error, df = np.broadcast_arrays(delta, error, df)
    half = np.where(error == 0, 0.0, error * special.stdtrit(np.fmax(df, 1), (1 + level) / 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        p = np.where(error == 0, np.nan, 2 * special.stdtr(np.fmax(df, 1), -np.abs(delta) / error))
    return Difference(delta, error, df, delta - half, delta + half, p)


def holm(p: ArrayLike, family: int | None = None) -> Floats:
    """Return Holm-adjusted p-values along the last axis; nan values are not tested.

    ``family``: how many tests there are in all, those that nobody has made yet included (by
    default as many as have a value).

    Comparing them with 0.05 keeps the chance of any false alarm in the family at 5 %
    (S. Holm, 1979, Scandinavian Journal of Statistics 6).
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, axis=-1)  # nan last
    ranked = np.take_along_axis(values, order, axis=-1)
    tests = np.isfinite(values).sum(axis=-1, keepdims=True)
    tests = tests if family is None else np.maximum(tests, family)
    factors = np.maximum(tests - np.arange(values.shape[-1]), 1)
    filled = np.where(np.isfinite(ranked), ranked * factors, 0.0)
    adjusted = np.minimum(np.maximum.accumulate(filled, axis=-1), 1.0)
    out = np.empty_like(values)
    np.put_along_axis(out, order, np.where(np.isfinite(ranked), adjusted, np.nan), axis=-1)
    return out


def selection_bias(candidates: int, sigma: float) -> float:
    """Return how much the best of ``candidates`` values flatters, at most, in points.

    The expected maximum of that many normal values with standard deviation ``sigma`` (of one
    value: the seed noise over the root of the seeds): right where all candidates are equally
    good, and less if they differ.
    """
    assert candidates >= 1, candidates
    if candidates == 1:
        return 0.0
    from scipy.integrate import quad

    def gain(x: float) -> Any:
        return 1 - special.ndtr(x) ** candidates - special.ndtr(-x) ** candidates

    return float(quad(gain, 0, np.inf)[0]) * sigma
