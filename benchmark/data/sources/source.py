"""What every source of images offers to the writer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmark.data.formats import Sample
from benchmark.data.sidecar import SplitName


@dataclass(frozen=True)
class SourceSplit:
    """The images of one split in index order; ``samples`` starts anew at each call.

    ``largest``: how many bytes the largest of them may take as it is stored.
    """

    num_samples: int
    samples: Callable[[], Iterator[Sample]]
    largest: int = 0


@dataclass(frozen=True)
class Source:
    """A dataset about to be written.

    ``altered`` says how it differs from the published dataset, None if it does not;
    ``checksums`` maps each file read to its md5; ``notes`` say what was passed over.
    """

    splits: dict[SplitName, SourceSplit]
    classes: tuple[str, ...]
    checksums: dict[str, str]
    altered: str | None
    notes: tuple[str, ...] = ()
