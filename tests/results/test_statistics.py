"""The formulas against scipy.stats, published worked checks, and their error rates."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmark.results.priors import GENERAL, PRIOR_DF, checked_prior, family_prior
from benchmark.results.statistics import (
    Difference,
    Prior,
    difference,
    holm,
    mean_std,
    noise,
    paired_difference,
    published_noise,
    selection_bias,
    side,
)

RUNS = 2000
FLAT = Prior("no prior", np.nan, np.nan)


def against(
    ours: object, n: object, std: object, published: object, n_published: object, prior: Prior
) -> Difference:
    """Ours against a published value without a std, as the judge compares them."""
    left, right = side(ours, n, std), side(published, n_published)
    known = noise(left, prior.sigma, prior.df)
    return difference(left, known, right, published_noise(right, known, prior.sigma, prior.df))


class EquivalenceResult(NamedTuple):
    """Which of the three things an interval says."""

    inside: np.ndarray
    above: np.ndarray
    below: np.ndarray


def outcomes(found: Difference, adjusted_p: np.ndarray, margin: float) -> EquivalenceResult:
    """What differences show: an interval within the margin, or zero excluded at 5 %."""
    inside = (found.low > -margin) & (found.high < margin)
    beyond = np.where(found.error == 0, True, np.asarray(adjusted_p) <= 0.05) & ~inside
    return EquivalenceResult(inside, beyond & (found.delta > 0), beyond & (found.delta < 0))


def test_mean_std_is_scipys() -> None:
    values = [70.1, 70.9, 70.4, 71.2]
    mean, std = mean_std(values)
    assert (mean, std) == pytest.approx((np.mean(values), stats.tstd(values)))


def test_one_value_has_no_spread() -> None:
    assert mean_std([70.0]) == (70.0, None)


def test_a_real_miss_stays_one() -> None:
    """DKD, wrn_40_2 to wrn_16_2: the mean of 4 is 75.505, published 76.24: z about 5."""
    found = against(75.505, 4, np.nan, 76.24, 5, GENERAL)
    assert found.delta / found.error == pytest.approx(-5, abs=0.1)
    assert found.p < 0.001
    assert outcomes(found, found.p, 0.5).below


@pytest.mark.parametrize(("shift", "z"), [(0.0, -2.5), (0.31, -0.2)])
def test_a_miss_that_best_against_last_explains(shift: float, z: float) -> None:
    """DKD, resnet32x4 to resnet8x4: 75.98 (n = 5, sd 0.18) against 76.32: z about 2.5.

    It vanishes if one is the last and the other the best epoch, 0.31 points apart.
    """
    found = against(75.978 + shift, 5, 0.183, 76.32, 5, GENERAL)
    assert found.delta / found.error == pytest.approx(z, abs=0.1)


@pytest.mark.parametrize(
    ("sigma", "n", "n_published", "half"), [(0.22, 5, 3, 0.31), (0.37, 3, 3, 0.59)]
)
def test_noise_of_a_difference(sigma: float, n: int, n_published: int, half: float) -> None:
    """95 % noise of (ours - published), for a sigma that is known exactly."""
    found = against(70, n, np.nan, 70, n_published, Prior("known", sigma, 1e9))
    assert found.high == pytest.approx(half, abs=0.006)


def test_family_priors_are_the_rms_of_the_published_spreads(fixtures: Path) -> None:
    squares = defaultdict(list)
    with (fixtures / "papers" / "seed_std.csv").open() as file:
        for line in csv.DictReader(file):
            if line["dataset"] == "cifar100" and line["std"]:
                # The pool writes ShuffleV1 where models are called shufflenetv1.
                student = line["pair"].split(">")[-1].lower().replace("shufflev", "shufflenetv")
                squares[family_prior(student)].append(float(line["std"]) ** 2)
    assert {prior.sigma for prior in squares} == {0.22, 0.25, 0.37}
    for prior, values in squares.items():
        assert np.mean(values) ** 0.5 == pytest.approx(prior.sigma, abs=0.01)


def test_best_is_about_a_third_of_a_point_over_last(fixtures: Path) -> None:
    with (fixtures / "papers" / "best_vs_last_logs.csv").open() as file:
        gaps = [float(line["best"]) - float(line["last"]) for line in csv.DictReader(file)]
    assert np.mean(gaps) == pytest.approx(0.31, abs=0.01)
    assert np.std(gaps, ddof=1) == pytest.approx(0.156, abs=0.01)


@pytest.mark.parametrize(
    ("student", "sigma"),
    [
        ("resnet20", 0.22),
        ("shufflenetv1", 0.25),
        ("ShuffleNet-V2", 0.25),
        ("mobilenetv2", 0.37),
        ("MobileNet_V2", 0.37),
        ("mobilenetv1", 0.22),
    ],
)
def test_family_of_a_student(student: str, sigma: float) -> None:
    assert family_prior(student).sigma == sigma


def test_prior_degrees_of_freedom_fit_the_scatter_of_published_variances() -> None:
    """Relative variance 0.71 at n = 5, where one constant sigma would give 0.5."""
    rng = np.random.default_rng(0)
    sigma2 = PRIOR_DF / rng.chisquare(PRIOR_DF, 200_000)
    s2 = sigma2 * rng.chisquare(4, 200_000) / 4
    assert s2.var() / s2.mean() ** 2 == pytest.approx(0.71, abs=0.03)


def test_without_prior_it_is_welchs_test() -> None:
    left, right = [70.1, 70.9, 70.4], [71.5, 71.2, 71.9, 71.4]
    sides = [side(np.mean(x), len(x), np.std(x, ddof=1)) for x in (left, right)]
    found = difference(sides[0], noise(sides[0]), sides[1], noise(sides[1]))
    expected = stats.ttest_ind(left, right, equal_var=False)
    # The degrees of freedom are capped at the better known side's, 3, on the safe side.
    assert found.delta / found.error == pytest.approx(expected.statistic)
    assert found.df == pytest.approx(min(expected.df, 3))


def test_a_prior_is_updated_by_the_seeds() -> None:
    known = noise(side(70, 5, 0.3), 0.22, 18)
    assert known.sigma**2 == pytest.approx((18 * 0.22**2 + 4 * 0.3**2) / 22)
    assert known.df == 22
    assert noise(side(70, 1), 0.22, 18).sigma == pytest.approx(0.22)


def test_a_wild_cell_overrules_its_prior_and_lends_its_noise() -> None:
    left, right = side(70, 3, 1.5), side(70, 1)
    known = noise(left, 0.22, 18)
    assert known.own
    assert known.sigma == 1.5
    assert known.df == 2
    assert published_noise(right, known, 0.22, 18).sigma == 1.5
    # Their own printed std stands.
    printed = published_noise(side(70, 5, 0.2), known, 0.22, 18)
    assert printed.sigma < 0.22


def test_one_seed_without_any_knowledge_says_nothing() -> None:
    found = against(70, 1, np.nan, 75, 5, FLAT)
    assert np.isnan(found.low)
    assert not any(outcomes(found, found.p, 0.5))


def test_a_median_is_noisier_than_a_mean() -> None:
    rng = np.random.default_rng(0)
    medians = np.median(rng.normal(size=(40_000, 5)), axis=1)
    left, right = side(0.0, 5, median=True), side(0.0, np.inf)
    known = noise(left, 1.0, 1e9)
    found = difference(left, known, right, known)
    assert found.error >= medians.std()
    assert found.error == pytest.approx(medians.std(), rel=0.06)


@pytest.mark.parametrize(
    ("delta", "word"), [(0.3, "inside"), (-0.3, "inside"), (0.7, "above"), (-0.7, "below")]
)
def test_without_noise_the_margin_decides(delta: float, word: str) -> None:
    found = against(70 + delta, np.inf, np.nan, 70, np.inf, GENERAL)
    shown = outcomes(found, holm(found.p[None])[0], 0.5)
    assert {name: bool(getattr(shown, name)) for name in shown._fields} == {
        name: name == word for name in shown._fields
    }


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    with_gap = holm([0.01, np.nan, 0.04])
    assert with_gap[[0, 2]] == pytest.approx([0.02, 0.04])
    assert np.isnan(with_gap[1])
    assert holm([]).size == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_raw_and_bonferroni(p: list[float]) -> None:
    adjusted = holm(p)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= np.minimum(1, len(p) * np.array(p)) + 1e-12).all()
    assert adjusted.min() == pytest.approx(min(1.0, len(p) * min(p)))
    # A smaller p-value never has a larger adjusted one.
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()


@pytest.mark.parametrize(
    ("candidates", "expected"), [(1, 0.0), (2, 0.5642), (3, 0.8463), (9, 1.4850), (10, 1.5388)]
)
def test_selection_bias_is_the_expected_maximum(candidates: int, expected: float) -> None:
    assert selection_bias(candidates, 1.0) == pytest.approx(expected, abs=1e-4)
    assert selection_bias(candidates, 0.25) == pytest.approx(expected / 4, abs=1e-4)


def simulated(
    shift: float, n: int, prior: Prior, sigma: float | None, seed: int, n_published: int = 5
) -> tuple[Difference, np.ndarray]:
    """RUNS cells of n seeds, each ``shift`` away from its published mean of five.

    ``sigma``: the true noise; None draws a cell's own from the prior's distribution.
    """
    rng = np.random.default_rng([seed, n, 1000 + int(100 * shift)])
    spread = (
        np.sqrt(prior.df * prior.sigma**2 / rng.chisquare(prior.df, RUNS))
        if sigma is None
        else np.full(RUNS, sigma)
    )
    ours = rng.normal(shift, spread[:, None], (RUNS, n))
    theirs = rng.normal(0, spread[:, None], (RUNS, n_published)).mean(axis=1)
    std = ours.std(axis=1, ddof=1) if n > 1 else np.nan
    found = against(ours.mean(axis=1), n, std, theirs, n_published, prior)
    return found, spread


# Three standard errors of a rate estimated from RUNS simulations.
def slack(rate: float) -> float:
    return 3 * (rate * (1 - rate) / RUNS) ** 0.5


SHIFTS = (0.0, 0.1, -0.1, 0.3, -0.3, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0)


@pytest.mark.parametrize("prior", [GENERAL, family_prior("mobilenetv2")])
@pytest.mark.parametrize("n", range(1, 11))
def test_simulated_runs_have_the_stated_error_rates(prior: Prior, n: int) -> None:
    for shift in SHIFTS:
        found, _ = simulated(shift, n, prior, None, seed=7)
        covered = (found.low <= shift) & (shift <= found.high)
        assert covered.mean() == pytest.approx(0.95, abs=slack(0.05) + 0.005)
        shown = outcomes(found, found.p, 0.5)
        wrong_way = shown.below if shift >= 0 else shown.above
        assert wrong_way.mean() <= 0.025 + slack(0.025)
        if shift == 0:
            assert (shown.above | shown.below).mean() <= 0.05 + slack(0.05)
        if abs(shift) >= 0.5:
            assert shown.inside.mean() <= 0.025 + slack(0.025)


@pytest.mark.parametrize(
    ("shift", "n", "word", "least"),
    [
        (0.0, 3, "inside", 0.6),
        (0.0, 5, "inside", 0.8),
        (0.1, 10, "inside", 0.8),
        (1.0, 1, "above", 0.9),
        (-1.0, 3, "below", 0.95),
        (2.0, 1, "above", 0.99),
    ],
)
def test_enough_seeds_come_to_the_right_verdict(
    shift: float, n: int, word: str, least: float
) -> None:
    found, _ = simulated(shift, n, GENERAL, 0.22, seed=8)
    assert getattr(outcomes(found, found.p, 0.5), word).mean() >= least


@pytest.mark.parametrize("n", [1, 3, 5])
def test_a_whole_table_raises_one_false_alarm_in_twenty(n: int) -> None:
    """2,000 tables of 40 cells, all equal to what was published."""
    cells = 40
    rng = np.random.default_rng([9, n])
    shape = (RUNS, cells)
    spread = np.sqrt(PRIOR_DF * GENERAL.sigma**2 / rng.chisquare(PRIOR_DF, shape))
    ours = rng.normal(0, spread[..., None], (*shape, n))
    theirs = rng.normal(0, spread / 5**0.5)
    std = ours.std(axis=-1, ddof=1) if n > 1 else np.nan
    found = against(ours.mean(axis=-1), n, std, theirs, 5, GENERAL)
    alarms = (holm(found.p) <= 0.05).any(axis=1)
    assert alarms.mean() <= 0.05 + slack(0.05)
    assert alarms.mean() >= 0.02  # the correction is not so blunt that it could never alarm


@pytest.mark.parametrize("sigma", [0.3, 0.6, 1.5])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_table_noisier_than_its_prior_is_found_out(sigma: float, n: int) -> None:
    """200 tables of 40 cells: the table's own spread replaces the prior, coverage holds."""
    rng = np.random.default_rng([10, n, int(100 * sigma)])
    covered = []
    for _ in range(200):
        ours = rng.normal(0, sigma, (40, n))
        theirs = rng.normal(0, sigma / 5**0.5, 40)
        std = ours.std(axis=1, ddof=1)
        prior = checked_prior(GENERAL, list(std), [n] * 40)
        found = against(ours.mean(axis=1), n, std, theirs, 5, prior)
        covered.append((found.low <= 0) & (found.high >= 0))
    assert np.mean(covered) >= 0.93


def test_the_tables_check_leaves_a_fitting_prior_alone() -> None:
    rng = np.random.default_rng(3)
    kept = 0
    for _ in range(500):
        sigma = np.sqrt(PRIOR_DF * GENERAL.sigma**2 / rng.chisquare(PRIOR_DF, 40))
        std = rng.normal(0, sigma[:, None], (40, 3)).std(axis=1, ddof=1)
        kept += checked_prior(GENERAL, list(std), [3] * 40) is GENERAL
    assert kept / 500 >= 0.97
    assert checked_prior(GENERAL, [], []) is GENERAL


def test_one_collapsed_cell_does_not_make_a_table_noisy() -> None:
    assert checked_prior(GENERAL, [0.2, 0.25, 0.18, 12.0], [3, 3, 3, 3]) is GENERAL


def test_pairs_that_share_their_noise_tell_apart_what_means_do_not() -> None:
    rng = np.random.default_rng(4)
    shared = rng.normal(0, 0.4, 8)
    left, right = 70.3 + shared, 70.0 + shared + rng.normal(0, 0.05, 8)
    gaps = left - right
    paired = paired_difference(gaps.mean(), 8, gaps.std(ddof=1))
    assert paired.low > 0
    expected = stats.ttest_rel(left, right)
    assert paired.p == pytest.approx(expected.pvalue)
    sides = [side(x.mean(), 8, x.std(ddof=1)) for x in (left, right)]
    unpaired = difference(sides[0], noise(sides[0]), sides[1], noise(sides[1]))
    assert unpaired.low < 0
