"""Does a row of methods train on a pair: forward, backward, step, checkpoint, resume?"""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch

from benchmark.conformance.compare import first_difference
from benchmark.conformance.findings import CheckFailedError
from benchmark.conformance.lab import Lab
from benchmark.run.identity import MethodRef
from benchmark.train.trainee import Trainee

# Beyond this many numbers of its own a second copy of a method is not made.
TOO_LARGE = 300_000_000


def trains(
    lab: Lab,
    methods: Sequence[MethodRef],
    ce_weight: float | None = None,
    predict: str | None = None,
) -> str:
    """Take a step of each stage, save, take another, and take that one again after a resume.

    Raises UserError if the methods are undefined for the pair.
    """
    run = lab.run(methods, ce_weight=ce_weight, predict=predict)
    trainee = lab.start(run)
    if trainee.epoch < 1:
        _step(lab, trainee)
        trainee.end_epoch()
    losses = _step(lab, trainee)
    said = f"loss {losses:.4g}"
    own = sum(p.numel() for p in trainee.methods.parameters())
    if own:
        said += f", {own:,} numbers of its own"
    if own > TOO_LARGE:
        return f"{said} (too large for a second copy: not resumed)"
    file = io.BytesIO()
    torch.save(trainee.state(), file)
    _step(lab, trainee)
    fresh = lab.start(run)
    file.seek(0)
    fresh.load_state(torch.load(file, weights_only=True))
    _step(lab, fresh)
    place = first_difference(trainee.state(), fresh.state())
    if place is not None:
        raise CheckFailedError(f"after a resume {place} differs")
    return said


def _step(lab: Lab, trainee: Trainee) -> float:
    lab.step(trainee)
    if trainee.diverged_at is not None:
        raise CheckFailedError("the loss is not finite")
    for name, parameter in trainee.student.model.named_parameters():
        if not parameter.isfinite().all():
            raise CheckFailedError(f"after a step the student's {name} is not finite")
    sums: dict[str, torch.Tensor] = trainee.state()["sums"]
    total = sum(float(v) for k, v in sums.items() if not k.startswith("/"))
    return total / float(sums["/images"])
