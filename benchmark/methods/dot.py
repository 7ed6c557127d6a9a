"""DOT: the distillation gradient keeps a longer memory than the task gradient.

Zhao et al. 2023, "DOT: A Distillation-Oriented Trainer" (arXiv:2307.08436): KD whose two terms
have momentum buffers of their own, with momentum mu - delta for the labels and mu + delta for
the teacher; every step takes both. The defaults are the CIFAR-100 ones; ImageNet uses
delta 0.09 with KD's ImageNet weights. Learning rate, mu and weight decay are the recipe's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.methods.base import Method, Step
from benchmark.methods.kd import kd_loss
from benchmark.methods.options import MethodOptions


def _remember(buffer: Tensor | None, gradient: Tensor, momentum: float) -> Tensor:
    """Return the momentum buffer after this gradient; the first gradient starts it."""
    return gradient.clone() if buffer is None else buffer.mul_(momentum).add_(gradient)


@torch.no_grad()
def two_momentum_step(
    parameter: Tensor,
    state: dict[str, Tensor],
    task: Tensor | None,
    distillation: Tensor | None,
    *,
    lr: float,
    momentum: float,
    delta: float,
    weight_decay: float,
) -> None:
    """Move ``parameter`` in place by both gradients; ``state`` holds their buffers.

    Weight decay joins the task gradient alone. If only one gradient exists it decays with
    the mean of both momenta, and a distillation gradient alone carries the weight decay from
    its second step on (as the reference does).
    """
    task_momentum = momentum - delta if distillation is not None else momentum
    distillation_momentum = momentum + delta if task is not None else momentum
    moves = []
    if task is not None:
        decayed = task.add(parameter, alpha=weight_decay)
        state["momentum_buffer"] = _remember(state.get("momentum_buffer"), decayed, task_momentum)
        moves.append(state["momentum_buffer"])
    if distillation is not None:
        buffer = state.get("distillation_momentum_buffer")
        if task is None and buffer is not None:
            distillation = distillation.add(parameter, alpha=weight_decay)
        buffer = _remember(buffer, distillation, distillation_momentum)
        state["distillation_momentum_buffer"] = buffer
        moves.append(buffer)
    for move in moves:
        parameter.add_(move, alpha=-lr)


class Options(MethodOptions):
    """KD's weights and temperature, and how far apart the two momenta are."""

    ce_weight: float = Field(0.1, ge=0, description="weight of the cross-entropy on the labels")
    weight: float = Field(0.9, ge=0, description="weight of the distillation term")
    temperature: float = Field(4.0, gt=0, description="divides both networks' logits")
    delta: float = Field(
        0.075, ge=0, lt=1, description="taken from the task's momentum, added to the teacher's"
    )


class DOT(Method[Options]):
    """KD with the two-momentum optimiser."""

    teacher_maps = ()

    def loss(self, step: Step) -> Tensor:
        """Return KD's weighted term."""
        options = self.options
        teacher = step.need_teacher()
        distance = kd_loss(step.student.logits, teacher.logits, options.temperature)
        return options.weight * distance

    def update(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[nn.Parameter],
        rest: Sequence[Tensor | None],
        own: Sequence[Tensor | None],
    ) -> None:
        """Step every parameter from both gradients; both buffers live in ``optimizer.state``.

        Raises UserError for optimisers other than plain SGD with momentum.
        """
        delta = self.options.delta
        if not isinstance(optimizer, torch.optim.SGD):
            raise UserError("dot needs a recipe with optimizer sgd: it replaces SGD's momentum")
        groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        for parameter, task, distillation in zip(parameters, rest, own, strict=True):
            group = groups[id(parameter)]
            momentum = float(group["momentum"])
            if group["nesterov"] or group["dampening"]:
                raise UserError("dot is defined for SGD without nesterov and dampening")
            if not delta <= momentum < 1 - delta:
                raise UserError(
                    f"dot: momentum {momentum:g} -/+ delta {delta:g} must lie in [0, 1)"
                )
            two_momentum_step(
                parameter,
                optimizer.state[parameter],
                task,
                distillation,
                lr=float(group["lr"]),
                momentum=momentum,
                delta=delta,
                weight_decay=float(group["weight_decay"]),
            )
