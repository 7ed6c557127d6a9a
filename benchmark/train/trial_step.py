"""Take a step of a run on one image, to see whether its methods can learn from it.

On random images and an untrained teacher, on the CPU. A step on two images goes before: what fails
on those, too, is no fault of the single one.
"""

from __future__ import annotations

import torch

from benchmark.base.errors import UserError, first_line
from benchmark.data.batches import Batch
from benchmark.data.datasets import described
from benchmark.models import build_model
from benchmark.run.identity import Run
from benchmark.train.network import Network
from benchmark.train.trainee import Trainee, World

# A few images of each class are enough for methods that look at the labels.
_OF_A_CLASS = 4
_RATE = 1e-3


def why_not_one_image(run: Run, images: int) -> str | None:
    """Return why a run cannot take a step on a single image, None if it can.

    ``images``: how many there are to train on.
    """
    info = described(run.dataset.name, run.dataset.own)
    side = run.recipe.crop_size or info.image_size
    labels = torch.arange(min(images, _OF_A_CLASS * info.num_classes)) % info.num_classes
    world = World((3, side, side), info.num_classes, labels, steps_per_epoch=2)
    found = _failure(run, world, images=2)
    return None if found is not None else _failure(run, world, images=1)


def _failure(run: Run, world: World, images: int) -> str | None:
    """Return why a step of each stage of a run fails on so many images."""
    trainee = _started(run, world)
    if not trainee.uses_images:
        return None
    try:
        if trainee.epoch < 1:
            trainee.epoch = 0  # the last of a first stage
            _step(trainee, world, images)
            trainee.end_epoch()
        _step(trainee, world, images)
    except UserError as error:
        return str(error)
    except (ValueError, RuntimeError) as error:  # torch: more than one value per channel
        return first_line(error)
    return "its loss is not finite" if trainee.diverged_at is not None else None


def _started(run: Run, world: World) -> Trainee:
    size = run.recipe.batch_size // run.recipe.replicas
    plain = {"device": "cpu", "precision": "fp32", "per_model": {}, "lr": _RATE, "replicas": 1}
    recipe = run.recipe.model_copy(update={**plain, "batch_size": size})
    teacher = None
    if run.teacher is not None:
        name, reads = run.teacher.model, run.teacher_input_size
        model = build_model(name, world.num_classes, image_size=reads or world.image_shape[1])
        model.requires_grad_(False)
        teacher = Network(name, model.eval(), recipe, reads)
    return Trainee(run.model_copy(update={"recipe": recipe}), world, teacher)


def _step(trainee: Trainee, world: World, images: int) -> None:
    batch = _batch(world, images)
    further = {which: _batch(world, images) for which in trainee.companions}
    taught = None
    if trainee.needs_teacher and trainee.teacher is not None:
        with torch.no_grad():
            taught = trainee.student.reads(trainee.teacher.features(batch.images))
    own = batch._replace(images=trainee.student.layout(batch.images))
    beside = {
        which: found._replace(images=trainee.student.layout(found.images))
        for which, found in further.items()
    }
    seen = batch if trainee.private_teacher is not None else own
    trainee.train_step(seen, taught, beside or None)


def _batch(world: World, images: int) -> Batch:
    indices = torch.arange(images)
    return Batch(torch.randn(images, *world.image_shape), world.labels[indices], indices)
