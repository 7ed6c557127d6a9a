"""The handwritten digits that come with scikit-learn: real images without a download."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import numpy.typing as npt

from benchmark.data.formats import Sample
from benchmark.data.rng import draws, stream_key
from benchmark.data.sources.source import Source, SourceSplit

TRAIN_LABELS_PER_CLASS = 10


def digits_source() -> Source:
    """Return the 1,797 digits [8, 8] as grey RGB, 100 of them for training.

    Few labels, so that methods differ. Of each class the ten images with the smallest random
    draw (a fixed stream, no seed) are for training, all others for testing, both in the order of
    the file. Values 0 to 16 become 0 to 255, rounded.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    grey = np.rint(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    keys = draws(stream_key(0, 0, "digits"), np.arange(len(labels), dtype=np.int64))
    chosen = np.zeros(len(labels), bool)
    for label in range(10):
        members = np.flatnonzero(labels == label)
        chosen[members[np.argsort(keys[members])[:TRAIN_LABELS_PER_CLASS]]] = True
    return Source(
        splits={
            "train": _split(grey[chosen], labels[chosen]),
            "test": _split(grey[~chosen], labels[~chosen]),
        },
        classes=tuple(str(digit) for digit in range(10)),
        checksums={},
        altered=None,
    )


def _split(grey: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> SourceSplit:
    return SourceSplit(len(labels), partial(_samples, grey, labels))


def _samples(grey: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> Iterator[Sample]:
    for image, label in zip(grey, labels, strict=True):
        height, width = image.shape
        yield Sample(np.repeat(image.reshape(-1), 3).tobytes(), height, width, int(label))
