"""Optimisers and learning rates, as pure functions of a recipe and what has been seen."""

from __future__ import annotations

import fnmatch
import itertools
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.base.torchvision_shim import make_torchvision_importable
from benchmark.models.features import Model
from benchmark.table.recipe import Cosine, Milestones, Plateau, Recipe
from benchmark.table.schedule import Unit


def build_optimizer(
    recipe: Recipe, parameters: Iterable[nn.Parameter], undecayed: Collection[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """Return the recipe's optimiser over all parameters.

    With ``decay_on`` matrices, one-dimensional parameters and those of ``undecayed`` (compared by
    identity) do not decay; they are the first group, as in timm's ``create_optimizer_v2``.

    The implementation is fixed here, not chosen at run time: implementations differ in
    the last bits. It walks a parameter, its gradient and its state in the order of the memory,
    so all of them get the parameter's strides before every step and after every load. Raises
    UserError for a parameter with gaps in memory.
    """
    parameters = _without_gaps(parameters)
    groups = _groups(recipe, parameters, undecayed)
    optimizer: torch.optim.Optimizer
    if recipe.optimizer in ("adam", "adamw"):
        kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
        optimizer = kind(
            groups,
            lr=recipe.lr,
            betas=recipe.betas,
            eps=recipe.eps or 1e-8,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
    elif recipe.optimizer == "lamb":
        optimizer = _lamb(recipe, groups)
    else:
        optimizer = torch.optim.SGD(
            groups,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
    return _kept_laid_out(optimizer)


def build_adam(
    parameters: Iterable[nn.Parameter], lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Return Adam with torch's betas, for what a method trains beside the recipe's optimiser."""
    fitting = _without_gaps(parameters)
    adam = torch.optim.Adam(fitting, lr=lr, weight_decay=weight_decay, fused=True)
    return _kept_laid_out(adam)


def _without_gaps(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    found = list(parameters)
    for parameter in found:
        if torch.empty_like(parameter).stride() != parameter.stride():
            raise UserError(
                f"a parameter of shape {tuple(parameter.shape)} is a part of a larger tensor, or"
                " repeats one, which the fused optimiser cannot step; make it of a clone()"
            )
    return found


def _kept_laid_out(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    optimizer.register_step_pre_hook(_before_step)
    optimizer.register_load_state_dict_post_hook(_lay_out_state)
    return optimizer


def _groups(
    recipe: Recipe, parameters: list[nn.Parameter], undecayed: Collection[nn.Parameter]
) -> list[Any]:
    if recipe.decay_on == "all":
        return parameters
    spared = {id(parameter) for parameter in undecayed}
    free = [p.ndim <= 1 or id(p) in spared for p in parameters]
    groups: list[dict[str, Any]] = [
        {"params": list(itertools.compress(parameters, free)), "weight_decay": 0.0},
        {"params": [p for p, spare in zip(parameters, free, strict=True) if not spare]},
    ]
    return [group for group in groups if group["params"]]


def undecayed(recipe: Recipe, model: Model) -> list[nn.Parameter]:
    """Return the parameters that the network's own list and the names ``.bias`` spare of decay.

    The rule of timm's ``create_optimizer_v2``, without ``recipe.also_decay``.
    """
    listed = model.no_weight_decay()
    found = []
    for name, parameter in model.named_parameters():
        last = name.rpartition(".")[2]
        spared = name.endswith(".bias") or any(fnmatch.fnmatch(name, item) for item in listed)
        if spared and last not in recipe.also_decay:
            found.append(parameter)
    return found


def _lamb(recipe: Recipe, groups: list[Any]) -> torch.optim.Optimizer:
    """Return timm's LAMB, always in its multi-tensor implementation."""
    assert recipe.lamb is not None, "the recipe's validation asks for it"
    make_torchvision_importable()
    from timm.optim.lamb import Lamb

    return Lamb(
        groups,
        lr=recipe.lr,
        betas=recipe.betas,
        eps=recipe.eps or 1e-6,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.lamb.max_grad_norm,
        trust_clip=recipe.lamb.trust_clip,
        always_adapt=recipe.lamb.always_adapt,
        foreach=True,
    )


def laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """Return ``value``, of the parameter's shape, with its strides; itself if it has them."""
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


def learning_rate(
    recipe: Recipe,
    epoch: int,
    accuracies: Sequence[float],
    step: int = 0,
    steps_per_epoch: int = 1,
) -> float:
    """Return the rate of ``epoch`` (from 1); ``accuracies`` are the evaluations before it.

    ``step`` counts the epoch's optimiser steps from 0; schedules per iteration alone read it.
    """
    schedule = recipe.schedule
    if isinstance(schedule, Milestones):
        if epoch <= schedule.warmup_epochs:
            done = (epoch - 1) * steps_per_epoch + step + 1
            return recipe.lr * done / (schedule.warmup_epochs * steps_per_epoch)
        drops = sum(epoch > milestone for milestone in schedule.milestones)
        return float(recipe.lr * schedule.gamma**drops)
    if isinstance(schedule, Cosine):
        return _cosine(recipe, schedule, epoch, step, steps_per_epoch)
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


def _cosine(recipe: Recipe, schedule: Cosine, epoch: int, step: int, steps: int) -> float:
    """Return the rate in the units that the schedule and its warm-up count, each in its own."""

    def done(unit: Unit) -> int:
        passed = epoch - 1 if unit == "epoch" else (epoch - 1) * steps + step
        return max(0, passed - schedule.late)

    if schedule.cycles > 1:
        total = recipe.epochs * (1 if schedule.per == "epoch" else steps)
        length = max(1, total // schedule.cycles)
        share = done(schedule.per) % length / length
        return schedule.min_lr + (recipe.lr - schedule.min_lr) * (1 + math.cos(math.pi * share)) / 2
    warm, low = schedule.warmup_per or schedule.per, schedule.warmup_lr
    length = schedule.warmup_epochs * (1 if warm == "epoch" else steps)
    length = length if schedule.warmup_steps is None else schedule.warmup_steps
    if done(warm) < length:
        return low + (recipe.lr - low) * done(warm) / max(1, length - schedule.warmup_closed)
    each = 1 if schedule.per == "epoch" else steps
    before = 0
    if schedule.warmup == "before":
        before = length if schedule.per == warm else schedule.warmup_epochs * each
    span = max(1, recipe.epochs * each - before)
    share = min(1.0, (done(schedule.per) - before) / span)
    return schedule.min_lr + (recipe.lr - schedule.min_lr) * (1 + math.cos(math.pi * share)) / 2
