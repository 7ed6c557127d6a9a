"""The digest of what a dataset contains, whatever file it lies in.

Labels, sizes and stored images are hashed in index order: pixels if images are stored raw, the
JPEG bytes if they are compressed (decoders differ in the last bit, so their pixels have no
digest that holds everywhere). Page sizes, page order and workers do not enter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from benchmark.data.formats import Bytes, Layout, Sample


class Tally:
    """Counts, measures and hashes samples as they pass by; ``sizes`` holds every (H, W) met.

    ``turned`` counts those whose files ask to be turned, which moves no digest. ``progress`` is
    called after each with how many passed and the ``total`` expected.
    """

    def __init__(
        self, progress: Callable[[int, int], None] = lambda done, total: None, total: int = 0
    ) -> None:
        self._progress, self._total = progress, total
        self.count = 0
        self.turned = 0
        self.sizes: set[tuple[int, int]] = set()
        self._rows = hashlib.sha256()
        self._images = hashlib.sha256()

    def watch(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """Yield ``samples`` unchanged, taking note of each."""
        for sample in samples:
            row = [sample.mode, sample.height, sample.width, sample.label, len(sample.data)]
            self._rows.update(np.array(row, "<i8").tobytes())
            self._images.update(sample.data)
            self.sizes.add((sample.height, sample.width))
            self.count += 1
            self.turned += sample.turned
            yield sample
            self._progress(self.count, self._total)

    def digest(self) -> str:
        """Return the digest of all samples so far."""
        return _combine(self._rows.digest(), self._images.digest())


def _combine(rows: bytes, images: bytes) -> str:
    return "sha256:" + hashlib.sha256(rows + images).hexdigest()


def layout_digest(layout: Layout, pixels: Bytes | None = None) -> str:
    """Return the digest of a file's content; ``pixels``: all of them, where already read."""
    columns = (layout.modes, layout.heights, layout.widths, layout.labels, layout.sizes)
    rows = np.stack([column.astype("<i8") for column in columns], axis=1)
    images = hashlib.sha256()
    if pixels is not None:
        images.update(np.ascontiguousarray(pixels).data)
    else:
        memory = layout.map()
        for index in range(layout.num_samples):
            images.update(layout.stored(index, memory).data)
    return _combine(hashlib.sha256(rows.tobytes()).digest(), images.digest())


def dataset_digest(splits: Mapping[str, str]) -> str:
    """Return the digest of a dataset from those of its splits."""
    lines = "".join(f"{name} {splits[name]}\n" for name in sorted(splits))
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()
