"""What steps of networks and methods were counted to ask of a machine. Imports no torch.

``perf/operations.json`` travels with the package; ``perf/count_operations.py`` writes it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from benchmark.base.files import read_json
from benchmark.base.shipped import shipped

SCHEMA = 1
OPERATIONS_FILE = shipped("perf/operations.json")


class Effort(NamedTuple):
    """What some work asks: operations, bytes moved, kernels, bytes held at once and for good."""

    operations: float = 0.0
    moved: float = 0.0
    kernels: float = 0.0
    peak: float = 0.0
    stays: float = 0.0

    def __add__(self, other: object) -> Effort:
        assert isinstance(other, Effort)
        return Effort(*(a + b for a, b in zip(self, other, strict=True)))

    def times(self, factor: float) -> Effort:
        """Return this much of it."""
        return Effort(*(value * factor for value in self))


class LinearWork(NamedTuple):
    """Effort by image and by step, which a step on some images is made of."""

    image: Effort
    step: Effort

    def on(self, images: float) -> Effort:
        """Return the work of one step on so many images."""
        return self.image.times(images) + self.step


class NetworkCounts(NamedTuple):
    """A network on images of one side: a pass in eval mode, a training step, its parameters."""

    forward: LinearWork
    step: LinearWork
    parameters: int
    exact: bool


class MethodCounts(NamedTuple):
    """What a method adds to a step: counted, or (``counts`` is None) by its share on other pairs.

    ``share`` is of the operations of its student's step and its teacher's pass together.
    """

    counts: LinearWork | None
    share: float
    exact: bool


class CountedWork:
    """Everything that was counted."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._networks: dict[tuple[str, int], Any] = {
            (entry["name"], entry["side"]): entry for entry in content["networks"]
        }
        self._methods: dict[str, Any] = {entry["name"]: entry for entry in content["methods"]}

    def network(self, name: str, side: int) -> NetworkCounts:
        """Return a network's counts; not ``exact`` if it was counted at another size or never.

        At another size it is taken to do as much for each pixel. One that was never counted is
        taken for the middle one of those that were.
        """
        entry = self._networks.get((name, side))
        if entry is not None:
            return _network(entry, 1.0, True)
        sides = [s for known, s in self._networks if known == name]
        if sides:
            nearest = min(sides, key=lambda known: abs(known - side))
            return _network(self._networks[name, nearest], (side / nearest) ** 2, False)
        by_work = sorted(
            self._networks.values(),
            key=lambda e: float(e["step"]["image"]["operations"]) / e["side"] ** 2,
        )
        middle = by_work[len(by_work) // 2]
        return _network(middle, (side / middle["side"]) ** 2, False)

    def method(self, name: str, version: int | str, pair: str) -> MethodCounts:
        """Return what a method adds to its student's step on a pair.

        Not ``exact`` if another pair or another version was counted, or none at all.
        """
        entry = self._methods.get(name)
        if entry is None:
            return MethodCounts(None, 0.0, False)
        if pair in entry["pairs"]:
            return MethodCounts(_counts(entry["pairs"][pair]), 0.0, entry["version"] == version)
        shares = [self._share(found, key) for key, found in entry["pairs"].items()]
        return MethodCounts(None, statistics.median(shares) if shares else 0.0, False)

    def _share(self, found: Mapping[str, Any], pair: str) -> float:
        teacher, student = (self.network(name, 32) for name in pair.split("-"))
        whole = student.step.image.operations + teacher.forward.image.operations
        return _counts(found).image.operations / whole


@cache
def counted_work() -> CountedWork:
    """Return what the package knows. Raises UserError for a damaged file."""
    return CountedWork(read_json(OPERATIONS_FILE, SCHEMA))


def _network(entry: Mapping[str, Any], scale: float, exact: bool) -> NetworkCounts:
    forward, step = (_counts(entry[name]) for name in ("forward", "step"))
    if scale != 1.0:
        forward, step = (
            found._replace(image=found.image.times(scale)) for found in (forward, step)
        )
    return NetworkCounts(forward, step, entry["parameters"], exact)


def _counts(found: Mapping[str, Any]) -> LinearWork:
    return LinearWork(Effort(**found["image"]), Effort(**found["step"]))
