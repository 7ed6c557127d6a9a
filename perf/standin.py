"""A teacher that was never trained, written as the run that trained it would have left it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from benchmark.data.open import open_batches
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.run.lease import Lease
from benchmark.train.session import Session
from benchmark.train.trainee import Trainee, World


def write_teacher(student: Run, data: Path, runs_dir: Path) -> None:
    """Write the run that ``student`` names as its teacher: initial weights, calibrated norms.

    The running statistics are those of one batch, so that features have the size of a trained
    network's and no student diverges.
    """
    assert student.teacher is not None
    run = student.model_copy(
        update={"model": student.teacher.model, "teacher": None, "methods": ()}
    )
    batches = open_batches(
        run.dataset.name, data, seed=0, batch_size=256, augmentation=run.recipe.augmentation
    )
    world = World(batches.image_shape, batches.num_classes, batches.labels, batches.steps_per_epoch)
    trainee = Trainee(run, world, None)
    for module in trainee.student.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        trainee.student.model.train()(next(batches.epoch(1)).images)
    rundir = RunDir(runs_dir, student.teacher.key)
    rundir.create(run)
    Session(rundir, Lease.acquire(rundir)).finish(trainee, {})
