"""Which pictures runs ask their shared teacher about. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmark.data.augmentations import augmentation_info
from benchmark.data.order import BatchPlan
from benchmark.data.shown import different, epochs_of
from benchmark.run.identity import Run


def batch_plan(run: Run, num_train: int) -> BatchPlan:
    """Return the batches of a run."""
    recipe = run.recipe
    plan = (recipe.batch_size, recipe.drop_last, recipe.holdout, recipe.repeats)
    return BatchPlan(num_train, run.seed, *plan)


def pictures_of(runs: Sequence[Run], num_train: int) -> npt.NDArray[np.int64]:
    """Return the numbers of all pictures that these runs are shown from epoch 1 on, ascending."""
    info = augmentation_info(runs[0].recipe.augmentation)
    plans = [(batch_plan(run, num_train), run.recipe.epochs) for run in runs]
    return np.flatnonzero(different(num_train, info, epochs_of(plans, info)))
