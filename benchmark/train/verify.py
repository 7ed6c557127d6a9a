"""Measure public teacher checkpoints against their published accuracy, before anything trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmark.base.errors import UserError
from benchmark.data.augmentations import AugmentationInfo
from benchmark.data.batches import Batches
from benchmark.data.datasets import dataset_info, require_dataset
from benchmark.data.open import open_batches
from benchmark.data.sidecar import Sidecar
from benchmark.models import build_model
from benchmark.models.checkpoint import load_into, load_state
from benchmark.models.features import Model
from benchmark.run.identity import Run
from benchmark.table.imagenet_classes import positions
from benchmark.table.recipe import Recipe, named_recipe, override
from benchmark.table.teachers import (
    RegisteredTeacher,
    checkpoint_digest,
    checkpoint_file,
    chosen,
    registered,
)
from benchmark.train.evaluate import Accuracy, evaluate
from benchmark.train.network import Network
from benchmark.train.rng import seeded
from benchmark.train.teacher import num_known

Tick = Callable[[], None]

# Published accuracies are rounded to 0.01; other hardware moves one image in ten thousand.
TOLERANCE = 0.05
# A teacher in another precision may lose a little; one that is another network loses far more.
GROSS = 0.5


def check_checkpoint(dataset: str, model: str, data_dir: Path) -> None:
    """Load a public checkpoint into its network.

    Raises UserError if it is damaged or does not fit, or does not know the data's classes.
    """
    (teacher,) = chosen(dataset, model)
    _load(teacher, dataset, data_dir)
    _labels(teacher, dataset, data_dir)


def check_teacher(run: Run, data_dir: Path, tick: Tick) -> None:
    """Refuse to train by a public teacher that is far from its published accuracy.

    It is measured with the crop and the normalisation that its entry states. On data that is
    neither the official test set nor named in its entry nothing can be said. Raises UserError.
    """
    assert run.teacher is not None
    name = run.dataset.name
    teacher = registered(name, run.teacher.model)
    if teacher is None:
        return
    sidecar = require_dataset(name, data_dir)
    expected = _expected(teacher, sidecar)
    if expected is None:
        return
    network = Network(teacher.model, _load(teacher, name, data_dir), run.recipe)
    found = _measure(network, teacher, name, data_dir, run.recipe, tick)
    if abs(found.top1 - expected) > GROSS:
        raise UserError(
            f"the public teacher {teacher.model} has {found.top1:.2f} % on the test set,"
            f" {expected:.2f} % is published: {checkpoint_file(teacher)} is another network"
        )


def _expected(teacher: RegisteredTeacher, sidecar: Sidecar) -> float | None:
    """Return the accuracy that a teacher is known to have on this data, None if none is."""
    if sidecar.official:
        return teacher.accuracy
    known = next((m for m in teacher.measured if m.digest == sidecar.digest), None)
    return None if known is None else 100 * known.correct / known.images


def _load(teacher: RegisteredTeacher, dataset: str, data_dir: Path) -> Model:
    path = checkpoint_file(teacher)
    assert path is not None, "planned from a file that is there"
    known = num_known(teacher, dataset_info(dataset, data_dir=data_dir))
    with seeded(0, "teacher"):  # its initial weights are overwritten
        model = build_model(teacher.model, known)
    load_into(model, load_state(path), str(path))
    return model


def _labels(teacher: RegisteredTeacher, dataset: str, data_dir: Path) -> Tensor | None:
    """Return the teacher's number of each class of the data, None if they are the same."""
    sidecar = require_dataset(dataset, data_dir)
    if num_known(teacher, dataset_info(dataset, data_dir=data_dir)) == sidecar.num_classes:
        return None
    return torch.tensor(positions(sidecar.classes, teacher.model))


def _measure(
    network: Network,
    teacher: RegisteredTeacher,
    dataset: str,
    data_dir: Path,
    recipe: Recipe,
    tick: Tick = lambda: None,
) -> Accuracy:
    network.model.eval()
    labels = _labels(teacher, dataset, data_dir)
    tests = _own_images(teacher, dataset, data_dir, recipe).test(recipe.eval_batch)
    if labels is not None:
        tests = (b._replace(labels=labels.to(b.labels.device)[b.labels]) for b in tests)
    (found,) = evaluate([lambda images: network.features(images).logits], tests, tick)
    return found


def _own_images(
    teacher: RegisteredTeacher, dataset: str, data_dir: Path, recipe: Recipe
) -> Batches:
    """Open the data as the teacher's published accuracy was measured."""
    own = teacher.preprocessing
    opened = partial(open_batches, dataset, data_dir, seed=0, batch_size=64, device=recipe.device)
    if own is None:
        return opened(augmentation="none")
    augmentation = AugmentationInfo(
        teacher.model,
        1,
        "as the registry states",
        crop_size=own.input_size,
        test_interpolation=own.interpolation,
        mean=own.mean,
        std=own.std,
        resize=own.resize,
    )
    return opened(reader="ffcv", augmentation=augmentation, workers=recipe.threads)


def verify_teachers(dataset: str, model: str | None, data_dir: Path) -> Iterator[tuple[str, bool]]:
    """Yield a line and whether it is good for every checkpoint that is on this machine.

    On data that is neither the official test set nor named in a teacher's entry the accuracy is
    shown but cannot be compared. Raises UserError if there is no checkpoint, no data, or a
    file is unreadable.
    """
    teachers = [t for t in chosen(dataset, model) if checkpoint_file(t) is not None]
    if not teachers:
        raise UserError("no checkpoint is on this machine; run: bench teachers fetch")
    sidecar = require_dataset(dataset, data_dir)
    recipe = override(named_recipe("crd_240"), {"device": "cpu", "channels_last": False})
    for teacher in teachers:
        network = Network(teacher.model, _load(teacher, dataset, data_dir), recipe)
        accuracy = _measure(network, teacher, dataset, data_dir, recipe)
        expected = _expected(teacher, sidecar)
        published = teacher.accuracy if expected is None else expected
        correct = round(accuracy.top1 * accuracy.images / 100)
        line = (
            f"{teacher.model}: {accuracy.top1:.2f} % on {accuracy.images} images ({correct} right),"
            f" published {published:.2f} %, sha256 {checkpoint_digest(teacher)}"
        )
        if expected is None:
            yield f"{line}; not comparable: other data ({sidecar.digest[:19]})", True
        elif abs(accuracy.top1 - expected) > (TOLERANCE if sidecar.official else 1e-9):
            yield f"{line}; MISSED", False
        else:
            yield f"{line}; ok", True
