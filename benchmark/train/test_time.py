"""What a prediction costs: the parameters that it uses, and its multiplications with additions.

Both are of the reported output for one image in eval mode, so that what a method needs only in
training (projectors, peers, branches) counts nothing, and an ensemble counts all of its networks.
Every operation is noted, and what the reported logits were made of is followed back: outputs that
are computed side by side are told apart, and what they share counts once. Multiply-adds are those
of convolutions, linear layers and attention, as papers count them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmark.methods.composition import STUDENT
from benchmark.train.trainee import Trainee


class _Operation(NamedTuple):
    """What it reads, what it makes or writes into, and its floating-point operations."""

    reads: set[int]
    makes: set[int]
    flops: int


class _Tape(TorchDispatchMode):
    """Notes every operation in order.

    A tensor is known by its memory, which its views share, and a held one by itself: several may
    lie in one memory. Tensors are kept, so that no number stands for two.
    """

    def __init__(self, work: FlopCounterMode, held: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[_Operation] = []
        self._work, self._held = work, {id(x) for x in held}
        self._kept: list[Tensor] = []

    def number(self, tensor: Tensor) -> int:
        """Return what a tensor is known by."""
        own = id(tensor)
        return own if own in self._held else tensor.untyped_storage()._cdata

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        before = self._work.get_total_flops()
        made = func(*args, **kwargs)
        flops = self._work.get_total_flops() - before
        given = dict(zip((item.name for item in func._schema.arguments), args, strict=False))
        given |= kwargs
        written = [
            given.get(item.name)
            for item in func._schema.arguments
            if item.alias_info is not None and item.alias_info.is_write
        ]
        reads, makes = self._numbers(given), self._numbers((made, written))
        self.operations.append(_Operation(reads, makes, flops))
        return made

    def _numbers(self, tree: object) -> set[int]:
        tensors = [x for x in tree_leaves(tree) if isinstance(x, Tensor)]
        self._kept += tensors
        return {self.number(x) for x in tensors}


def of_prediction(trainee: Trainee) -> dict[str, int]:
    """Return ``parameters`` and ``multiply_adds`` of the reported output; call after training."""
    reported = trainee.objective.reported
    trainee.eval()
    held = _held(trainee)
    # With gradients, so that no fused kernel stands for several layers.
    with (
        torch.enable_grad(),
        FlopCounterMode(display=False) as work,
        _Tape(work, held) as tape,
    ):
        if reported == STUDENT:
            logits = trainee.predict(trainee.image)
        else:
            logits = trainee.outputs(trainee.image)[reported]
    needed, flops = {tape.number(logits)}, 0
    for operation in reversed(tape.operations):
        if operation.makes & needed:
            needed |= operation.reads
            flops += operation.flops
    return {
        "parameters": sum(x.numel() for x in held if tape.number(x) in needed),
        "multiply_adds": flops // 2,
    }


def _held(trainee: Trainee) -> list[Tensor]:
    """Return parameters, and what is kept like one (a frozen classifier); no statistics."""
    found: dict[int, Tensor] = {}
    for network in (trainee.student.model, trainee.methods):
        for module in network.modules():
            own = [] if isinstance(module, _BatchNorm) else list(module.buffers(recurse=False))
            own += module.parameters(recurse=False)
            found |= {id(x): x for x in own if x.is_floating_point()}
    return list(found.values())
