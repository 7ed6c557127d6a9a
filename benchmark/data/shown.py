"""Which pixels a run is shown: its pictures by number, known from its schedule. Imports no torch.

A picture is what the augmentation made of an image: image i in its variant v has the number
i * num_variants + v. Who asks a frozen network about pictures asks a question for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from benchmark.data.augmentations import AugmentationInfo
from benchmark.data.order import BatchPlan, Indices
from benchmark.data.rng import below, draws, stream_key

Seen = npt.NDArray[np.bool_]


def crop_flip_table(info: AugmentationInfo, seed: int, epoch: int, indices: Indices) -> Indices:
    """Return rows [B, 3] of (top, left, flip), the same as augment.crop_flip without torch."""
    bits = draws(stream_key(seed, epoch, "crop_flip"), indices)
    side = 2 * info.padding + 1
    flip = (bits >> np.uint64(32) & np.uint64(info.flip)).astype(np.int64)
    return np.stack([below(bits, side, 0), below(bits, side, 16), flip], axis=1)


def variant_numbers(info: AugmentationInfo, table: Indices) -> Indices:
    """Return the number [B] of each crop and flip, the same as augment.variants without torch."""
    top, left, flip = table.T
    place: Indices = top * (2 * info.padding + 1) + left
    return place * 2 + flip if info.flip else place


def pictures(plan: BatchPlan, info: AugmentationInfo, epoch: int) -> Indices:
    """Return the numbers of the pictures of an epoch, in its order."""
    order = plan.order(epoch)
    numbers = variant_numbers(info, crop_flip_table(info, plan.seed, epoch, plan.views(order)))
    assert info.num_variants is not None
    return order * info.num_variants + numbers


def epochs_of(plans: Iterable[tuple[BatchPlan, int]], info: AugmentationInfo) -> Iterator[Indices]:
    """Yield the pictures of every epoch, from 1 on, of plans with their numbers of epochs."""
    for plan, epochs in plans:
        for epoch in range(1, epochs + 1):
            yield pictures(plan, info, epoch)


def different(num_train: int, info: AugmentationInfo, epochs: Iterable[Indices]) -> Seen:
    """Return which of all pictures [num_train * num_variants] are among those of ``epochs``."""
    assert info.num_variants is not None
    seen = np.zeros(num_train * info.num_variants, np.bool_)
    for numbers in epochs:
        seen[numbers] = True
    return seen
