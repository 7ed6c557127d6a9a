"""What decides the numbers of a dataset of the user's own beside its images. Imports no torch."""

from __future__ import annotations

from benchmark.table.recipe import Number, Positive, Strict


class OwnData(Strict):
    """A dataset that the user wrote, as its sidecar and the keys of its runs hold it.

    ``image_size`` is the side that models see; ``mean`` and ``std`` are a channel's, of pixels in
    [0, 1].
    """

    num_classes: Positive
    image_size: Positive
    mean: tuple[Number, Number, Number]
    std: tuple[Number, Number, Number]
    num_train: Positive
    num_test: Positive
