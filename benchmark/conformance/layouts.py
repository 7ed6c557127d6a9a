"""Does a run take the same steps whatever the order of its tensors in memory?"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from benchmark.conformance.compare import copied
from benchmark.conformance.findings import CheckFailedError
from benchmark.conformance.lab import Lab
from benchmark.run.identity import Run
from benchmark.train.trainee import Trainee

# Rounding moves an update by about 1e-5 of itself, by some hundredths behind an Adam, which takes
# a full step by a gradient that is rounding alone; one that is given to other weights by 1.
TOLERANCE = 5e-2
# Parts of a tensor's update below this share of the largest one are rounding: what a batch norm
# takes away again, say.
FLOOR = 1e-3
# Gradients below this share of the largest one that their Adam sees are rounding, too: that of a
# bias before a batch norm, say. Adam makes a full step of them, in any direction.
GRADIENT_FLOOR = 1e-5


class _Moves(NamedTuple):
    """How a step moved each parameter, and which of them an Adam moved by rounding alone."""

    updates: dict[str, Tensor]
    by_rounding: set[str]


def steps_alike(lab: Lab, channels_last: Lab, run: Run) -> str:
    """Two steps of each stage are the same in both memory formats, to rounding.

    The second one is taken by the run in channels_last from the other's state, as a resume does.
    """
    ours = lab.start(run)
    theirs = channels_last.start(
        run.model_copy(update={"recipe": run.recipe.model_copy(update={"channels_last": True})})
    )
    worst, steps = 0.0, 0
    stages = 2 if ours.epoch < 1 else 1
    for stage in range(stages):
        for _ in range(2):
            # Neither may write into the other's tensors.
            theirs.load_state(copied(ours.state()))
            worst = max(worst, _compared(_update(lab, ours), _update(channels_last, theirs)))
            steps += 1
        if stage + 1 < stages:
            ours.end_epoch()
    return f"{steps} steps alike, the worst to {worst:.1g}"


def _update(lab: Lab, trainee: Trainee) -> _Moves:
    """Take a step and return by how much it moved each parameter."""
    named = {
        f"{place}{name}": parameter
        for place, module in (("the student's ", trainee.student.model), ("", trainee.methods))
        for name, parameter in module.named_parameters()
    }
    before = {name: p.detach().clone() for name, p in named.items()}
    rounding: dict[int, bool] = {}

    def look(optimizer: torch.optim.Optimizer, args: object, kwargs: object) -> None:
        if not isinstance(optimizer, torch.optim.Adam):
            return
        moved = [p for group in optimizer.param_groups for p in group["params"]]
        sizes = {id(p): _rms(p.grad) for p in moved if p.grad is not None}
        floor = GRADIENT_FLOOR * max(sizes.values(), default=0.0)
        for key, size in sizes.items():
            # In every step of an Adam that takes several.
            rounding[key] = size < floor and rounding.get(key, True)

    handle = register_optimizer_step_pre_hook(look)
    try:
        lab.step(trainee)
    finally:
        handle.remove()
    updates = {name: p.detach() - before[name] for name, p in named.items()}
    return _Moves(updates, {name for name, p in named.items() if rounding.get(id(p), False)})


def _compared(ours: _Moves, theirs: _Moves) -> float:
    """Return the largest relative difference; CheckFailedError beyond the tolerance."""
    # If one of both gradients is more than rounding, they differ.
    spared = ours.by_rounding & theirs.by_rounding
    scale = max((_rms(update) for update in ours.updates.values()), default=0.0)
    worst = 0.0
    for name, update in ours.updates.items():
        if name in spared:
            continue
        size = max(_rms(update), FLOOR * scale)
        difference = _rms(update - theirs.updates[name]) / size if size else 0.0
        if not difference <= TOLERANCE:
            raise CheckFailedError(
                f"in channels_last the step of {name} differs by {difference:.2g} of itself"
            )
        worst = max(worst, difference)
    return worst


def _rms(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor)) / math.sqrt(max(1, tensor.numel()))
