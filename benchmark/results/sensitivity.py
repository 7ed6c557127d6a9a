"""Every verdict again under other assumptions: which ones would read differently?

What cannot be known is varied one thing at a time: the number of published runs if none is
stated, the epoch where none is stated, the seed spread (a quarter more), and how well the prior
of it is known (18 and 8 degrees of freedom).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from benchmark.results.evidence import Cells, Weighed, weigh
from benchmark.results.tabulate import JudgedCell

MORE_SPREAD = 1.25


def variants(
    cells: Cells, tasks: Sequence[JudgedCell]
) -> Iterator[tuple[str, np.ndarray, Weighed]]:
    """Yield each assumption by name, which cells it is about, and what they then show."""
    every = ~cells.exact
    silent = np.isnan(cells.value_n) & every
    if silent.any() and cells.assumed > 1:
        for runs in (1, cells.assumed):
            filled = np.where(np.isnan(cells.value_n), float(runs), cells.value_n)
            without = np.where(np.isnan(cells.value_n), np.nan, cells.value_std)
            changed = cells._replace(value_n=filled, value_std=without)
            yield f"n = {runs}", silent, weigh(changed)
    several = cells.admissible.sum(axis=1) > 1
    for name in dict.fromkeys(r.statistic for t in tasks for r in t.readings):
        this = np.array(
            [
                [
                    j < len(t.readings) and t.readings[j].statistic == name
                    for j in range(cells.admissible.shape[1])
                ]
                for t in tasks
            ]
        )
        about = several & this.any(axis=1)
        if about.any():
            only = np.where(about[:, None], this, cells.admissible)
            yield name.replace("_", " "), about, weigh(cells._replace(admissible=only))
    yield f"spread x {MORE_SPREAD}", every, weigh(cells, spread=MORE_SPREAD)
    for df in (18.0, 8.0):
        yield f"{df:.0f} degrees", every, weigh(cells._replace(df=np.full_like(cells.df, df)))
