"""The replicas of one run: each computes its part of a batch as a GPU of its own would.

Each has batch statistics, random numbers and a loss of its own, the mean over its images. The
batch's gradient is the mean over all images: the sum over replicas, each weighted by its share of
the images, in the order of the replicas. Of what forward passes change (running statistics), what
the first replica changed is kept, as in published runs, where DistributedDataParallel broadcasts
the first process's buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmark.train.crew import Crew
from benchmark.train.rng import seeded

Gradients = list[Tensor | None]


class Found(NamedTuple):
    """Gradients by parameters, one list or more, and named scalars, all weighted by images."""

    gradients: tuple[Gradients, ...]
    values: dict[str, Tensor]


class Replicas:
    """Those replicas of a run that this process carries, and their sums with all others'.

    ``torn``: in the middle of a step of several sums, the first of which were stepped by already.
    """

    def __init__(self, key: str, seed: int, replicas: int, crew: Crew, modules: nn.Module) -> None:
        self.number = replicas
        self.share = crew.share(replicas)
        self._key, self._seed, self._crew, self._modules = key, seed, crew, modules
        self.torn = False

    @property
    def buffers(self) -> list[Tensor]:
        """What forward passes may change; the first process's is what counts."""
        return list({id(b): b for b in self._modules.buffers()}.values())

    def summed(
        self, computations: Sequence[Callable[[], Found]], where: tuple[int, int, int]
    ) -> Found:
        """Return the sum over all replicas of what their computations find, one for each here.

        ``where``: epoch, step and place in the step, of which random numbers are a function. No
        buffer has moved where this raises.
        """
        buffers = self.buffers
        before = kept = [buffer.clone() for buffer in buffers]
        found: list[Found] = []
        try:
            for replica, compute in zip(self.share.own, computations, strict=True):
                _restore(buffers, before)
                with seeded(self._seed, f"train/{'/'.join(map(str, where))}/{replica}"):
                    found.append(compute())
                if replica == 0:
                    kept = [buffer.clone() for buffer in buffers]
            contents = {_described(one) for one in found}
            if len(contents) > 1:
                raise RuntimeError("replicas of one step have other gradients or terms")
            self._crew.meet(self._key, contents.pop())
            total = self._crew.added(_rows(found, self._crew.processes), self.number)
        except BaseException:
            _restore(buffers, before)
            raise
        _restore(buffers, kept)
        return _unpacked(total, found[0])


@torch.no_grad()
def _restore(buffers: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for buffer, value in zip(buffers, values, strict=True):
        buffer.copy_(value)


def _described(found: Found) -> str:
    """Return which gradients and scalars there are."""
    present = ("".join("01"[g is not None] for g in group) for group in found.gradients)
    return f"{'/'.join(present)} {' '.join(found.values)}"


def _tensors(found: Found) -> list[Tensor]:
    return [g for group in found.gradients for g in group if g is not None]


def _rows(found: Sequence[Found], multiple: int) -> Tensor:
    """Return a row [L] for each replica: its gradients as they lie in memory, then its scalars.

    L is the next ``multiple``.
    """
    like = _tensors(found[0])[0]
    length = sum(g.numel() for g in _tensors(found[0])) + len(found[0].values)
    rows = like.new_empty(len(found), -(-length // multiple) * multiple)
    rows[:, length:] = 0.0
    for row, one in zip(rows, found, strict=True):
        begin = 0
        for gradient in _tensors(one):
            _view(row, begin, gradient).copy_(gradient)
            begin += gradient.numel()
        for value in one.values.values():
            row[begin] = value
            begin += 1
    return rows


def _view(row: Tensor, begin: int, like: Tensor) -> Tensor:
    """Return the stretch of a row that holds a gradient, with its shape and strides."""
    return row[begin : begin + like.numel()].as_strided(
        like.shape, like.stride(), row.storage_offset() + begin
    )


def _unpacked(total: Tensor, like: Found) -> Found:
    begin = 0
    groups = []
    for group in like.gradients:
        taken: Gradients = []
        for gradient in group:
            if gradient is None:
                taken.append(None)
                continue
            taken.append(_view(total, begin, gradient))
            begin += gradient.numel()
        groups.append(taken)
    names = list(like.values)
    scalars = total[begin : begin + len(names)].unbind()
    return Found(tuple(groups), dict(zip(names, scalars, strict=True)))
