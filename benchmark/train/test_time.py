"""What a prediction costs: the parameters that it uses, and its multiplications with additions.

Both are of the reported output for one image in eval mode, so that what a method needs only in
training (projectors, peers, branches) counts nothing, and an ensemble counts all of its networks.
Multiply-adds are those of convolutions, linear layers and attention, as papers count them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmark.methods.composition import STUDENT
from benchmark.train.trainee import Trainee


class _Read(TorchDispatchMode):
    """Notes which tensors any operation reads, by their identity."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tensors: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.tensors |= {id(x) for x in tree_leaves((args, kwargs or {}))}
        return func(*args, **(kwargs or {}))


def of_prediction(trainee: Trainee) -> dict[str, int]:
    """Return ``parameters`` and ``multiply_adds`` of the reported output; call after training.

    Nothing is told where several outputs share their work, so that one's part cannot be told.
    """
    reported = trainee.objective.reported
    trainee.eval()
    predict: Callable[[Tensor], Tensor] = trainee.predict
    if reported != STUDENT:

        def predict(images: Tensor) -> Tensor:
            return trainee.outputs(images)[reported]

    with torch.enable_grad(), FlopCounterMode(display=False) as work, _Read() as read:
        logits = predict(trainee.image)
    used = [x for x in _held(trainee) if id(x) in read.tensors]
    spare = _without_effect(logits, used)
    # The student's own classifier is computed with its features, whoever predicts by others.
    own = trainee.student.model.head
    if not spare <= {id(x) for x in own.parameters()}:
        return {}
    return {
        "parameters": sum(x.numel() for x in used if id(x) not in spare),
        "multiply_adds": work.get_total_flops() // 2 - (own.weight.numel() if spare else 0),
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


def _without_effect(logits: Tensor, used: Sequence[Tensor]) -> set[int]:
    """Return the identities of trained parameters that logits do not depend on."""
    trained = [x for x in used if x.requires_grad]
    if not trained or not logits.requires_grad:
        return set()
    slopes = torch.autograd.grad(logits.sum(), trained, allow_unused=True)
    return {id(x) for x, slope in zip(trained, slopes, strict=True) if slope is None}
