"""Optimisers and learning rates, as pure functions of a recipe and what has been seen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from benchmark.recipe import Cosine, Milestones, Plateau, Recipe


def build_optimizer(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the recipe's optimiser over all parameters, weight decay on every one of them.

    The fused implementation is fixed here, not chosen at run time: implementations differ in
    the last bits.
    """
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(
            parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
        )
    return torch.optim.SGD(
        parameters,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
        fused=True,
    )


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
