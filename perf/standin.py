"""A teacher that was never trained, written as the run that trained it would have left it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from benchmark.data.augmentations import augmentation_info
from benchmark.data.open import open_batches
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.run.lease import Lease
from benchmark.train.history import Evaluation
from benchmark.train.session import Session
from benchmark.train.trainee import Trainee, World


def with_teacher(students: Sequence[Run], data: Path, runs_dir: Path) -> list[Run]:
    """Write the teacher of runs that share one, and return them as runs that it teaches.

    It has initial weights, and running statistics of one batch, so that features have the size of
    a trained network's and no student diverges. Its recipe is that of the students.
    """
    first = students[0]
    assert first.teacher is not None
    untaught = {"teacher": None, "methods": (), "ce_weight": None, "predict": None, "pair": None}
    versions = {k: v for k, v in first.versions.items() if not k.startswith("model:")}
    name = f"model:{first.teacher.model}"
    versions[name] = first.versions[name]
    run = first.model_copy(update={**untaught, "model": first.teacher.model, "versions": versions})
    info = augmentation_info(run.recipe.augmentation)
    small = info.crop_size is None
    batches = open_batches(
        run.dataset.name,
        data,
        reader="resident" if small else "ffcv",
        seed=0,
        batch_size=256 if small else run.recipe.batch_size,
        augmentation=info,
    )
    world = World(batches.image_shape, batches.num_classes, batches.labels, batches.steps_per_epoch)
    trainee = Trainee(run, world, None)
    for module in trainee.student.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        trainee.student.model.train()(next(batches.epoch(1)).images)
    # A run without an accuracy has no result. This one stands for an untrained network's.
    trainee.history.append(Evaluation(run.recipe.epochs, 1.0, 5.0, 4.6, float("nan")))
    rundir = RunDir(runs_dir, run.key)
    rundir.create(run)
    Session(rundir, Lease.acquire(rundir)).finish(trainee, {})
    taught = {"teacher": first.teacher.model_copy(update={"key": run.key})}
    return [student.model_copy(update=taught) for student in students]
