"""Count what a training step asks of a machine: arithmetic, bytes moved, kernels, memory.

Counted where every call of torch passes by (``TorchDispatchMode``), so in backward passes and
optimisers, too. Nothing is timed: counts are the same on every machine.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmark.base.errors import UserError
from benchmark.conformance.images import digit_images
from benchmark.conformance.lab import Lab, method_ref
from benchmark.conformance.pairs import Pair
from benchmark.models.features import Features
from benchmark.train.trainee import Trainee

CLASSES, SAMPLES = 100, 50_000
_LARGE = 64  # images beyond this side are counted on few


class Counted(NamedTuple):
    """What some work did.

    ``operations`` of convolutions and matrix products (two a multiplication with its addition);
    ``moved``: bytes that kernels read and wrote; ``kernels``: how many there were; ``peak``:
    bytes that it held at once and that were not there before; ``stays``: what it left behind.
    """

    operations: int
    moved: int
    kernels: int
    peak: int
    stays: int = 0


class Linear(NamedTuple):
    """The same of work on some images: ``image`` for each of them, ``step`` whatever they are."""

    image: Counted
    step: Counted

    def __sub__(self, other: Linear) -> Linear:
        return Linear(_minus(self.image, other.image), _minus(self.step, other.step))

    def to_json(self) -> dict[str, dict[str, int]]:
        """Return what of it is not zero, by name."""
        return {
            name: {key: value for key, value in part._asdict().items() if value}
            for name, part in self._asdict().items()
        }


def count(work: Callable[[], object]) -> Counted:
    """Do some work and count it."""
    with FlopCounterMode(display=False) as arithmetic, _Watch() as watch:
        kept = work()
    stays = watch.held
    del kept
    return Counted(arithmetic.get_total_flops(), watch.moved, watch.kernels, watch.peak, stays)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what kernels read and write, and what is held of it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moved = self.kernels = self.peak = self.held = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        read, made = _tensors((args, kwargs)), _tensors(found)
        if not func.is_view:
            self.moved += sum(t.numel() * t.element_size() for t in (*read, *made))
            self.kernels += 1
        there = self._known | {id(tensor.untyped_storage()) for tensor in read}
        for storage in (tensor.untyped_storage() for tensor in made):
            if id(storage) not in there:
                self._hold(storage)
        return found

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        self._known.add(key)
        self.held += size
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._let_go, key, size)

    def _let_go(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.held -= size


def _tensors(values: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


class PairCounter:
    """Counts steps of runs on one pair of networks, on images of one side."""

    def __init__(self, pair: Pair, side: int) -> None:
        self._sizes = (4, 8) if side <= _LARGE else (2, 4)
        self._labs = [
            Lab(pair, digit_images(2 * batch, side, batch, SAMPLES, CLASSES))
            for batch in self._sizes
        ]
        self.student = self._line(_of_step)

    def method(self, name: str) -> Linear:
        """Return what a method adds to the plain student's step, the teacher's answers given.

        Raises UserError if it is undefined for the pair.
        """
        return self._line(partial(_of_step, name=name)) - self.student

    def forward(self) -> Linear:
        """Return what a pass of the teacher costs."""
        return self._line(_of_pass)

    def parameters(self) -> int:
        """Return how many numbers the teacher has."""
        return sum(p.numel() for p in self._labs[0].teacher.model.parameters())

    def _line(self, work: Callable[[Lab], Counted]) -> Linear:
        few, many = (work(lab) for lab in self._labs)
        first, second = self._sizes
        image = Counted(
            *(round((b - a) / (second - first)) for a, b in zip(few, many, strict=True))
        )
        step = Counted(*(a - first * each for a, each in zip(few, image, strict=True)))
        return Linear(image, step)


def _of_pass(lab: Lab) -> Counted:
    return count(lambda: lab.taught(lab.batch()))


def _of_step(lab: Lab, name: str | None = None) -> Counted:
    """Count a run's second step; ``stays`` is what the run and its first step left."""
    methods = () if name is None else (method_ref(name),)
    begun: list[Trainee] = []
    taught = lab.taught(lab.batch())

    def begin() -> Trainee:
        trainee = lab.start(lab.run(methods))
        begun.append(trainee)
        if trainee.epoch < 1:
            lab.step(trainee)
            trainee.end_epoch()
        _step(lab, trainee, taught)
        return trainee

    stays = count(begin).stays
    found = count(lambda: _step(lab, begun[0], taught))
    if begun[0].diverged_at is not None:
        raise UserError(f"{name}: the loss became infinite or NaN")
    return found._replace(stays=stays)


def _step(lab: Lab, trainee: Trainee, taught: Features) -> None:
    if trainee.uses_images and trainee.companions:
        lab.step(trainee)  # it sees another batch
    else:
        lab.step(trainee, taught if trainee.needs_teacher else None)


def _minus(one: Counted, other: Counted) -> Counted:
    return Counted(*(a - b for a, b in zip(one, other, strict=True)))
