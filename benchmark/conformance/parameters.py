"""How many numbers a method trains beside the student, for a pair of networks.

Shapes are enough to count: networks and methods are built on torch's meta device, without memory
or arithmetic, so that 800 million parameters are counted as quickly as 800.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch

from benchmark.conformance.pairs import Pair
from benchmark.methods import build_method
from benchmark.methods.base import Probe, Setup
from benchmark.models import build_model


class Geometry(NamedTuple):
    """What of a table decides the shapes of its methods' parts."""

    num_classes: int
    image_size: int
    batch_size: int


class Counts(NamedTuple):
    """Numbers trained with the student, and those trained in the first stage alone."""

    trained: int
    first_stage: int


def extra_parameters(name: str, pair: Pair, geometry: Geometry) -> Counts:
    """Count a method's own numbers at its default options.

    Raises UserError if the method is undefined for the pair.
    """
    labels = torch.arange(10 * geometry.num_classes) % geometry.num_classes
    try:
        return _count(name, pair, geometry, labels, "meta")
    except (NotImplementedError, RuntimeError):
        # It looks at values when it is built, and has to be built in earnest; counts are equal.
        return _count(name, pair, geometry, labels, "cpu")


def _count(name: str, pair: Pair, geometry: Geometry, labels: torch.Tensor, device: str) -> Counts:
    student = _probe(pair.student, geometry, device)
    teacher = _probe(pair.teacher, geometry, device)
    shape = (3, geometry.image_size, geometry.image_size)
    sizes = (geometry.num_classes, labels, geometry.batch_size, 240, 0)
    setup = Setup(student, teacher, *sizes, pair=pair.teacher, image_shape=shape)
    with torch.random.fork_rng(devices=[]), torch.device(device):
        method = build_method(name, setup)
        shared = {id(p) for p in student.model.parameters()}
        mine = (p for p in method.parameters() if id(p) not in shared)
        trained = {id(p): p for p in mine if p.requires_grad}
        first: dict[int, torch.nn.Parameter] = {}
        if method.prepare_epochs:
            own = {id(p) for p in method.parameters()}
            found = method.prepare_parameters(student.model)
            first = {id(p): p for p in found if id(p) in own and id(p) not in trained}
    return Counts(*(sum(p.numel() for p in part.values()) for part in (trained, first)))


@cache
def _probe(name: str, geometry: Geometry, device: str) -> Probe:
    with torch.random.fork_rng(devices=[]), torch.device(device), torch.no_grad():
        model = build_model(name, geometry.num_classes).eval()
        images = torch.zeros(2, 3, geometry.image_size, geometry.image_size)
        return Probe(name, model, model.features(images))
