"""Does a run take the same steps whatever the order of its tensors in memory?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

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


def _update(lab: Lab, trainee: Trainee) -> dict[str, Tensor]:
    """Take a step and return by how much it moved each parameter."""
    named = {
        f"{place}{name}": parameter
        for place, module in (("the student's ", trainee.student.model), ("", trainee.methods))
        for name, parameter in module.named_parameters()
    }
    before = {name: p.detach().clone() for name, p in named.items()}
    lab.step(trainee)
    return {name: p.detach() - before[name] for name, p in named.items()}


def _compared(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """Return the largest relative difference; CheckFailedError beyond the tolerance."""
    scale = max((_rms(update) for update in ours.values()), default=0.0)
    worst = 0.0
    for name, update in ours.items():
        size = max(_rms(update), FLOOR * scale)
        difference = _rms(update - theirs[name]) / size if size else 0.0
        if not difference <= TOLERANCE:
            raise CheckFailedError(
                f"in channels_last the step of {name} differs by {difference:.2g} of itself"
            )
        worst = max(worst, difference)
    return worst


def _rms(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor)) / math.sqrt(max(1, tensor.numel()))
