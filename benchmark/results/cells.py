"""Published cells as arrays: what `evidence.py` weighs, from a grid or from a simulation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmark.results.statistics import Floats

Flags = NDArray[np.bool_]


class Cells(NamedTuple):
    """K published cells with R readings each; fields are [..., K, R] or [..., K] as told.

    ``means``, ``stds`` [..., K, R]: ours by each reading (nan: none); ``median`` [K, R]: the
    reading is a median over seeds. ``n`` [..., K] seeds, at most ``most``; ``admissible`` [K, R].
    ``value``, ``value_std``, ``value_n`` [..., K]: published (nan: not stated); ``assumed``: the
    n that an unstated one may be, besides 1. ``sigma`` [K, R], ``df`` [K]: the prior of the
    seed noise. ``source`` [K], ``column`` [K]: whose numbers, and which column. ``exact`` [K]: a
    checkpoint evaluated, which may be off by ``tolerance`` [K] and not more; ``margin`` [K].
    ``tau`` [..., K]: the spread of teachers if ours is not the paper's, else 0, known with
    ``tau_df`` degrees; ``teachers`` [..., K]: over how many of ours the cell averages. ``family``:
    how many published cells the table has. ``values`` [..., K, R, N]: ours by seed, in the seeds'
    order (nan: none); ``upward``: the higher printed number is the better one.
    """

    means: Floats
    stds: Floats
    median: Flags
    n: Floats
    most: Floats
    admissible: Flags
    value: Floats
    value_std: Floats
    value_n: Floats
    assumed: int
    sigma: Floats
    df: Floats
    source: NDArray[np.int_]
    column: NDArray[np.int_]
    exact: Flags
    tolerance: Floats
    margin: Floats
    tau: Floats
    tau_df: Floats
    teachers: Floats
    family: int
    values: Floats
    upward: bool = True
