"""Which further images a step may have beside its batch, in words that planning can read."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["view", "class", "previous"]
KINDS: tuple[Kind, ...] = ("view", "class", "previous")


class Companion(NamedTuple):
    """Further images of a step: a function of (seed, epoch, index, number) alone.

    ``view``: the batch's own images, augmented anew; number 0 is the batch itself, 1 its second
    view. ``class``: for each image a random one of its class (it may be the same one), augmented
    by draws of its own; the number keeps several partners apart. ``previous``: the images of the
    batch before, in the view of that number; at the first step of an epoch the last batch of
    the epoch before, and at the first step of a run's first epoch no image.
    """

    kind: Kind
    number: int = 0
