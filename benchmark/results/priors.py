"""What is known of seed noise before a table has runs, and whether the table agrees.

The sigmas are the rms of the seed standard deviations that papers and public logs report for
CIFAR-100 (356 cells by 2026: CRD tables 10 and 11, TTM, HSAKD, MCL, a CRD reproduction with raw
seeds and others): 0.223 points in general, 0.250 for ShuffleNets, 0.366 for MobileNetV2. At
n = 5 the variances of CRD's cells scatter by 0.71 (relative variance) where one constant sigma
gives 0.50; a scaled inverse chi-squared distribution with about 18 degrees of freedom gives
0.71. Smaller pools for other datasets are below these values (CIFAR-10 0.14, Tiny ImageNet
0.20), so that using them elsewhere errs to the wide side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from benchmark.results.statistics import CONFLICT_LEVEL, Floats, Prior

PRIOR_DF = 18.0
GENERAL = Prior("CIFAR students in general", 0.22, PRIOR_DF)
# By what a student's name holds, case and punctuation aside.
BY_FAMILY = {
    "shufflenet": Prior("ShuffleNet students", 0.25, PRIOR_DF),
    "mobilenetv2": Prior("MobileNetV2 students", 0.37, PRIOR_DF),
}
# Papers that trained ResNet-50 several times on ImageNet report about 0.1; top-5 by the ratio of
# the binomial spreads at 70 and 90 %. Less is known, so that it is worth less.
IMAGENET = {
    "top1": Prior("ImageNet students", 0.12, 8.0),
    "top5": Prior("ImageNet students, top-5", 0.08, 8.0),
}
# Datasets with a pool of their own, which their students' families do not split: by metric.
BY_DATASET = {
    "cifar10": {"top1": Prior("CIFAR-10 students", 0.14, 8.0)},
    "imagenet": IMAGENET,
    "imagenette": IMAGENET,
}
# The best epoch of a run scatters less over seeds than its last one.
BEST_FACTOR = 0.78
# Best minus last on CIFAR-100, points, and in seed spreads, by which it is guessed elsewhere.
BEST_GAIN, GAIN_IN_SPREADS = 0.31, 1.4
# Teachers of one network differ, and a student with them: if ours is not the paper's, by half
# of the student's seed noise, a guess worth hardly more than one number.
TAU_PART, TAU_DF = 0.5, 2.0
# A median over cells knows a variance about half as well as their mean, but a collapsed cell
# does not move it.
MEDIAN_EFFICIENCY = 0.5
# What the priors weigh against a table's own scale of noise.
SCALE_DF = 4.0


def family_prior(student: str, dataset: str = "") -> Prior:
    """Return the prior of a student's family, by its model name.

    On another dataset than CIFAR it is the same one, and its name says so.
    """
    plain = "".join(c for c in student.lower() if c.isalnum())
    found = next((prior for part, prior in BY_FAMILY.items() if part in plain), GENERAL)
    if not dataset or dataset.startswith("cifar"):
        return found
    return found._replace(
        name=f"{found.name}, taken from CIFAR for want of anything better on {dataset}"
    )


def cell_prior(
    student: str, dataset: str = "", metric: str = "top1", statistic: str = "last"
) -> Prior:
    """Return the prior of a student's seed noise by a metric and a statistic, with its source."""
    own = BY_DATASET.get(dataset)
    found = family_prior(student, dataset) if own is None else own.get(metric, own["top1"])
    return found._replace(sigma=found.sigma * BEST_FACTOR) if statistic == "best" else found


def best_gain(sigma: float) -> float:
    """Return how much the best epoch is expected to lie above the last one, points."""
    return min(BEST_GAIN, GAIN_IN_SPREADS * sigma)


def checked_prior(prior: Prior, stds: Sequence[float], ns: Sequence[int]) -> Prior:
    """Return the prior, or the table's own spread if its cells contradict the prior.

    ``stds`` and ``ns`` are those of the table's cells of this family with at least two seeds.
    If their typical spread is above the prior (F test at 1 %), as on small data or short
    runs, the prior is the table's own: the median of the cells' variances, each over the
    median of its own sampling distribution, which a single wild cell cannot move. It is worth
    no more than the family's prior, since cells differ among themselves; the test counts that
    once a cell, so that many cells may contradict the prior by little.
    """
    df = np.asarray(ns, dtype=np.float64) - 1
    assert (df >= 1).all(), ns
    if df.size == 0:
        return prior
    variance = float(np.median(np.asarray(stds) ** 2 * df / special.chdtri(df, 0.5)))
    weight = max(1.0, MEDIAN_EFFICIENCY * float(df.sum()))
    excess = float(special.fdtri(weight, prior.df * df.size, 1 - CONFLICT_LEVEL))
    if variance <= prior.sigma**2 * excess:
        return prior
    name = f"this table's own cells, noisier than {prior.name}"
    return Prior(name, variance**0.5, min(weight, PRIOR_DF))


def table_scale(
    stds: Floats, n: Floats, sigma: Floats, exact: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return how much noisier than its priors a whole table is, 1 if it is as they say.

    Arrays are [..., K]. From the median over cells of their variances in units of their priors,
    each over the median of its sampling distribution, so that a few stumbling seeds do not move
    it; the priors count as ``SCALE_DF`` degrees of freedom beside the table's own.
    """
    n = np.broadcast_to(n, stds.shape)
    df = np.where(np.isfinite(stds) & (n > 1) & ~exact, n - 1.0, np.nan)
    ratio = stds**2 / sigma**2 * df / special.chdtri(np.where(df > 0, df, 1.0), 0.5)
    ratio = np.where(np.isfinite(df), ratio, np.nan)
    weight = MEDIAN_EFFICIENCY * np.nansum(df, axis=-1)
    some = np.asarray(np.isfinite(ratio).any(axis=-1))
    filled = np.where(some[..., None], ratio, 1.0)
    typical = np.nanmedian(filled, axis=-1)
    variance = (SCALE_DF + np.where(some, weight, 0.0) * typical) / (
        SCALE_DF + np.where(some, weight, 0.0)
    )
    return np.asarray(np.sqrt(variance), dtype=np.float64)
