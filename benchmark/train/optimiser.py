"""Optimisers and learning rates, as pure functions of a recipe and what has been seen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.table.recipe import Cosine, Milestones, Plateau, Recipe


def build_optimizer(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the recipe's optimiser over all parameters, weight decay on every one of them.

    The fused implementation is fixed here, not chosen at run time: implementations differ in
    the last bits. It walks a parameter, its gradient and its state in the order of the memory,
    so all of them get the parameter's strides before every step and after every load. Raises
    UserError for a parameter with gaps in memory.
    """
    parameters = list(parameters)
    for parameter in parameters:
        if torch.empty_like(parameter).stride() != parameter.stride():
            raise UserError(
                f"a parameter of shape {tuple(parameter.shape)} is a part of a larger tensor, or"
                " repeats one, which the fused optimiser cannot step; make it of a clone()"
            )
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "adamw":
        optimizer = torch.optim.AdamW(
            parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
        )
    else:
        optimizer = torch.optim.SGD(
            parameters,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
    optimizer.register_step_pre_hook(_before_step)
    optimizer.register_load_state_dict_post_hook(_lay_out_state)
    return optimizer


def laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """Return ``value``, of the parameter's shape, with its strides; itself where it has them."""
    if value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


@torch.no_grad()
def _before_step(optimizer: torch.optim.Optimizer, args: object, kwargs: object) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is not None and gradient.stride() != parameter.stride():
                parameter.grad = laid_out_like(parameter, gradient)
    _lay_out_state(optimizer)


@torch.no_grad()
def _lay_out_state(optimizer: torch.optim.Optimizer) -> None:
    for parameter, state in optimizer.state.items():
        strides = parameter.stride()
        for name, value in state.items():
            # Beside tensors of the parameter's shape there are counts of steps.
            if (
                isinstance(value, Tensor)
                and value.stride() != strides
                and value.shape == parameter.shape
            ):
                state[name] = laid_out_like(parameter, value)


def learning_rate(recipe: Recipe, epoch: int, accuracies: Sequence[float]) -> float:
    """Return the rate of ``epoch`` (from 1); ``accuracies`` are the evaluations before it."""
    schedule = recipe.schedule
    if isinstance(schedule, Milestones):
        drops = sum(epoch > milestone for milestone in schedule.milestones)
        return float(recipe.lr * schedule.gamma**drops)
    if isinstance(schedule, Cosine):
        return _cosine(recipe, schedule, epoch)
    return recipe.lr * float(schedule.factor ** _plateau_drops(schedule, accuracies))


def drops_after(
    recipe: Recipe, epoch: int, before: Sequence[float], after: Sequence[float]
) -> bool:
    """Tell whether the rate falls by a step between ``epoch`` and the next.

    ``before`` and ``after``: the evaluations before and after the end of ``epoch``. A cosine
    falls all the time and by no step.
    """
    if isinstance(recipe.schedule, Cosine):
        return False
    return learning_rate(recipe, epoch + 1, after) < learning_rate(recipe, epoch, before)


def ends_early(recipe: Recipe, accuracies: Sequence[float]) -> bool:
    """Tell whether the schedule ends the run after these evaluations."""
    schedule = recipe.schedule
    if not isinstance(schedule, Plateau) or schedule.stop_patience is None or not accuracies:
        return False
    since_best = len(accuracies) - 1 - accuracies.index(max(accuracies))
    return since_best >= schedule.stop_patience


def _plateau_drops(schedule: Plateau, accuracies: Sequence[float]) -> int:
    drops, waited, best = 0, 0, -math.inf
    for accuracy in accuracies:
        if accuracy > best:
            best, waited = accuracy, 0
        else:
            waited += 1
        if waited >= schedule.patience:
            drops, waited = drops + 1, 0
    return drops


def _cosine(recipe: Recipe, schedule: Cosine, epoch: int) -> float:
    done = epoch - 1
    if done < schedule.warmup_epochs:
        share = done / schedule.warmup_epochs
        return schedule.warmup_lr + (recipe.lr - schedule.warmup_lr) * share
    span = max(1, recipe.epochs - schedule.warmup_epochs)
    share = (done - schedule.warmup_epochs) / span
    return schedule.min_lr + (recipe.lr - schedule.min_lr) * (1 + math.cos(math.pi * share)) / 2
