"""Count what a training step asks of a machine: arithmetic, bytes moved, kernels, memory.

Counted where every call of torch passes by (``TorchDispatchMode``), so in backward passes and
optimisers, too. Nothing is timed: counts are the same on every machine. On the device meta, where
tensors have shapes alone, a network of any size is counted in seconds and without its memory.

Known deviation: torch counts the weight gradient of a grouped convolution as if it had one group
(``findings/torch-flops-grouped-backward.sh``), so steps of MobileNets, ShuffleNets and RegNets
have too many operations here. The rates of CPUs were fitted to these counts.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from benchmark.base.errors import UserError
from benchmark.conformance.images import digit_images
from benchmark.conformance.lab import Lab, method_ref
from benchmark.conformance.pairs import Pair
from benchmark.models.features import Features
from benchmark.train.trainee import Trainee

CLASSES, SAMPLES = 100, 50_000
_LARGE = 64  # images beyond this side are counted on few
# Kernels without a version for the device meta, which write into what they are given.
_IN_PLACE = (torch.ops.aten._fused_sgd_.default,)


def _attention(query: Any, key: Any, value: Any, *_: object, **__: object) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _attention_back(gradient: Any, query: Any, key: Any, value: Any, *_: object, **__: Any) -> int:
    found = sdpa_backward_flop_count(gradient, query, key, value)  # type: ignore[no-untyped-call]
    return int(found)


# The CPU's fused attention, whose products torch counts for GPUs' alone.
_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_PRODUCTS = {
    _ATTENTION: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_back,
}


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
    arithmetic = FlopCounterMode(display=False, custom_mapping=_PRODUCTS)
    with _FusedAttention(), arithmetic, _Watch() as watch:
        kept = work()
    stays = watch.held
    del kept
    return Counted(arithmetic.get_total_flops(), watch.moved, watch.kernels, watch.peak, stays)


class _FusedAttention(TorchFunctionMode):
    """Lets tensors without values attend by one kernel, as others do, not by its parts."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and args[0].is_meta:
            return _ATTENTION(*args[:3], scale=kwargs.get("scale"))[0]
        return func(*args, **kwargs)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what kernels read and write, and what is held of it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moved = self.kernels = self.peak = self.held = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        read = _tensors((args, kwargs))
        shapes_alone = func in _IN_PLACE and read[0].is_meta
        found = None if shapes_alone else func(*args, **(kwargs or {}))
        made = _tensors(found)
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
    """Counts steps of runs on one pair of networks, on images of one side.

    On the ``device`` meta nothing is computed, which is for networks alone: methods may look at
    values.
    """

    def __init__(self, pair: Pair, side: int, device: Literal["cpu", "meta"] = "cpu") -> None:
        self._sizes = (4, 8) if side <= _LARGE else (2, 4)
        self._labs = [
            Lab(pair, digit_images(2 * batch, side, batch, SAMPLES, CLASSES), device=device)
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
        # The optimiser would refuse the device meta, which its kernel lacks.
        trainee.optimizer._need_device_dtype_check_for_fused = False  # type: ignore[attr-defined]
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
