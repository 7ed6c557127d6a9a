"""Looking costs: what a p-value and an interval are worth when one may look after every seed.

Who adds a seed and collects again tests again, and each further look is a further chance to be
wrong. The chance is spent in information time ``t`` = (variance of the difference at the most
seeds that a table allows) / (variance now), after K. K. G. Lan and D. L. DeMets (1983,
Biometrika 70), by the spending function of O'Brien and Fleming's type: little early, most of
it at the end. Intervals at every look together cover with 95 % (repeated confidence intervals;
for equivalence C. Jennison and B. W. Turnbull, 1993, Biometrics 49).

Results do not tell how often somebody has looked, so looks after every seed are paid for. Then
``z * sqrt(t)`` is a Brownian motion seen at discrete times, which passes a level ``c`` by
``t = 1`` with the chance ``4 (1 - Phi(c + 0.583 sqrt(step)))``, ``step`` being the last step of
t: the reflection principle, with the usual correction for discrete looks (D. Siegmund, 1985,
Sequential Analysis: recalled, and held by simulation in tests/results/test_worlds.py). It is
never less than the one look at the end costs.

Looks beyond the most seeds of the table are not paid for, and results say so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

# -zeta(1/2) / sqrt(2 pi): by how much a level seems higher to who looks only now and then.
DISCRETE = 0.5826


def information(variance_now: ArrayLike, variance_at_most: ArrayLike) -> NDArray[np.float64]:
    """Return the information time of a look, 0 to 1; 1 if there is no noise or no more."""
    now, most = np.asarray(variance_now, np.float64), np.asarray(variance_at_most, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(now > 0, np.minimum(most / now, 1.0), 1.0)


def repeated_p(p: ArrayLike, time: ArrayLike, step: ArrayLike) -> NDArray[np.float64]:
    """Return the two-sided p-value of one look as one among looks after every seed."""
    with np.errstate(invalid="ignore"):
        reached = -special.ndtri(np.asarray(p, np.float64) / 2) * np.sqrt(time)
        once = 2 * special.ndtr(-reached)
        always = 4 * special.ndtr(-reached - DISCRETE * np.sqrt(step))
        return np.asarray(np.minimum(np.maximum(once, always), 1.0), dtype=np.float64)


def repeated_level(level: float, time: ArrayLike, step: ArrayLike) -> NDArray[np.float64]:
    """Return the one-sided quantile (0.975 and up) that an interval at this look needs.

    The intervals at all looks together cover with ``level``.
    """
    once = special.ndtri((1 + level) / 2)
    always = special.ndtri(1 - (1 - level) / 4) - DISCRETE * np.sqrt(step)
    reached = np.maximum(once, always) / np.sqrt(time)
    return np.asarray(special.ndtr(reached), dtype=np.float64)


def default_most(planned: int) -> int:
    """Return up to how many seeds a table may go that does not say: half as many again."""
    return planned + max(planned // 2, 1)
