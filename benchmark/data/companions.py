"""Which samples are a step's further images, and by which draws they are augmented.

All of it is a pure function of (seed, epoch, step, number): no pack, resume or neighbour moves it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from benchmark.base.companion import Companion
from benchmark.base.errors import UserError
from benchmark.data.order import BatchPlan, Indices, parts
from benchmark.data.rng import draws, stream_key, uniform


class Samples(NamedTuple):
    """Samples [B] of the training set; draws are those of ``drawn_for`` [B] in ``epoch``.

    ``whole``: as in a ``Batch``.
    """

    indices: Indices
    drawn_for: Indices
    epoch: int
    purpose: str
    whole: int | None = None


class Companions:
    """Chooses further images; ``labels`` [N] of the whole training set, in index order."""

    def __init__(self, plan: BatchPlan, labels: Indices) -> None:
        self._plan, self._labels = plan, labels
        self._orders: dict[int, Indices] = {}
        trained = plan.train_indices
        by_class = trained[np.argsort(labels[trained], kind="stable")]
        self._members, self._counts = by_class, np.bincount(labels[trained])
        self._starts = np.cumsum(self._counts) - self._counts

    def samples(self, which: Companion, epoch: int, step: int) -> Samples:
        """Return the samples of one kind and number beside the batch of a step."""
        if which.kind == "previous":
            return self._previous(epoch, step)
        batch, whole = self._batch(epoch, step)
        if which.kind == "view":
            return Samples(batch, batch, epoch, "crop_flip", whole)
        bits = draws(stream_key(self._plan.seed, epoch, "partner", which.number), batch)
        of = self._labels[batch]
        places = (uniform(bits) * self._counts[of]).astype(np.int64)
        partners = self._members[self._starts[of] + places]
        # Drawn for the image that it accompanies: one partner of two images has two views.
        return Samples(partners, batch, epoch, "crop_flip of a partner", whole)

    def _previous(self, epoch: int, step: int) -> Samples:
        if step > 0:
            batch, whole = self._batch(epoch, step - 1)
            return Samples(batch, batch, epoch, "crop_flip", whole)
        if epoch == 1:
            none = np.empty(0, np.int64)
            whole = None if self._plan.share.replicas == 1 else 0
            return Samples(none, none, epoch, "crop_flip", whole)
        batch, whole = self._batch(epoch - 1, self._plan.steps_per_epoch - 1)
        return Samples(batch, batch, epoch - 1, "crop_flip", whole)

    def _batch(self, epoch: int, step: int) -> tuple[Indices, int | None]:
        if epoch not in self._orders:
            # The epoch and the one before it are all that is asked for.
            self._orders = {e: o for e, o in self._orders.items() if e == epoch - 1}
            self._orders[epoch] = self._plan.order(epoch)
        order = self._orders[epoch]
        part, whole = next(parts(len(order), self._plan.batch_size, self._plan.share, step))
        return order[part], whole


def no_companions(reader: str) -> UserError:
    """Return the error of a reader that reads nothing but the batches."""
    return UserError(
        f"the {reader} reader has no further views, partners or earlier batches of a step; use the"
        " resident reader"
    )
