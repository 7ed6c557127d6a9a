"""Frozen parts of a method: in eval mode, and the same throughout an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from benchmark.base.words import count
from benchmark.conformance.compare import copied, first_difference
from benchmark.conformance.findings import CheckFailedError, listed
from benchmark.conformance.lab import Lab
from benchmark.conformance.one_step import main_stage
from benchmark.run.identity import MethodRef
from benchmark.train.losses import AnyMethod

STEPS = 2


def frozen_parts_rest(lab: Lab, ref: MethodRef) -> str:
    """What a method does not train runs in eval mode, and no step of an epoch changes it.

    Copies that move on purpose (averages of weights, say) are those that ``moving_copies`` names.
    """
    trainee = main_stage(lab, ref)
    method = trainee.objective.methods[0]
    parts = dict(_frozen(method, ""))
    moving = _moving(method, parts)
    resting = {name: part for name, part in parts.items() if name not in moving}
    running = _Running(resting)
    before = {name: copied(part.state_dict()) for name, part in resting.items()}
    try:
        for _ in range(STEPS):
            lab.step(trainee)
    finally:
        running.remove()
    if running.in_train_mode:
        raise CheckFailedError(
            f"{listed(running.in_train_mode)} of its frozen parts runs in train mode: keep a"
            " Frozen(network), or name the part in moving_copies"
        )
    for name, part in resting.items():
        place = first_difference(before[name], part.state_dict())
        if place is not None:
            raise CheckFailedError(
                f"a step changes {name}.{place}, which is not trained: renew copies in end_epoch,"
                " or name the part in moving_copies"
            )
    said = [f"{count(len(resting), 'frozen part')} at rest"] if resting else []
    said += [f"{name} moves as declared" for name in moving]
    return ", ".join(said) or "has none"


def _frozen(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the largest parts of which no parameter is trained."""
    for name, child in module.named_children():
        parameters = list(child.parameters())
        if not parameters:
            continue
        if any(parameter.requires_grad for parameter in parameters):
            yield from _frozen(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _moving(method: AnyMethod, parts: dict[str, nn.Module]) -> tuple[str, ...]:
    unknown = [name for name in method.moving_copies if name not in parts]
    if unknown:
        raise CheckFailedError(
            f"moving_copies names {listed(unknown)}, and its frozen parts are:"
            f" {', '.join(parts) or 'none'}"
        )
    return method.moving_copies


class _Running:
    """Notes which layers of frozen parts run as in training, if the mode matters."""

    def __init__(self, parts: dict[str, nn.Module]) -> None:
        self.in_train_mode: list[str] = []
        self._handles = [
            layer.register_forward_pre_hook(self._noted(f"{name}.{place}" if place else name))
            for name, part in parts.items()
            for place, layer in part.named_modules()
            if isinstance(layer, _NormBase | nn.modules.dropout._DropoutNd)
        ]

    def _noted(self, name: str) -> Any:
        def look(layer: nn.Module, given: object) -> None:
            if layer.training and name not in self.in_train_mode:
                self.in_train_mode.append(name)

        return look

    def remove(self) -> None:
        """Stop looking."""
        for handle in self._handles:
            handle.remove()
