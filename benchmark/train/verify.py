"""Measure public teacher checkpoints against their published accuracy, before anything trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from benchmark.base.errors import UserError
from benchmark.data.batches import Batches
from benchmark.data.datasets import dataset_identity, dataset_info, require_dataset
from benchmark.data.open import open_batches
from benchmark.models import build_model
from benchmark.models.checkpoint import load_into, load_state
from benchmark.models.features import Model
from benchmark.run.identity import Run
from benchmark.table.recipe import named_recipe, override
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

Tick = Callable[[], None]

# Published accuracies are rounded to 0.01; other hardware moves one image in ten thousand.
TOLERANCE = 0.05
# A teacher in another precision may lose a little; one that is another network loses far more.
GROSS = 0.5


def check_checkpoint(dataset: str, model: str) -> None:
    """Load a public checkpoint into its network; UserError where it is damaged or does not fit."""
    (teacher,) = chosen(dataset, model)
    _load(teacher, dataset_info(dataset).num_classes)


def check_teacher(run: Run, network: Network, batches: Batches, data_dir: Path, tick: Tick) -> None:
    """Refuse to train by a public teacher that is far from its published accuracy.

    On data that is not the official test set nothing can be said. Raises UserError.
    """
    assert run.teacher is not None
    teacher = registered(run.dataset.name, run.teacher.model)
    if teacher is None or not require_dataset(run.dataset.name, data_dir).official:
        return
    found = _measure(network, batches, run.recipe.eval_batch, tick)
    if abs(found.top1 - teacher.accuracy) > GROSS:
        raise UserError(
            f"the public teacher {teacher.model} has {found.top1:.2f} % on the test set,"
            f" {teacher.accuracy:.2f} % is published: {checkpoint_file(teacher)} is another network"
        )


def _load(teacher: RegisteredTeacher, num_classes: int) -> Model:
    path = checkpoint_file(teacher)
    assert path is not None, "planned from a file that is there"
    with seeded(0, "teacher"):  # its initial weights are overwritten
        model = build_model(teacher.model, num_classes)
    load_into(model, load_state(path), str(path))
    return model


def _measure(network: Network, batches: Batches, size: int, tick: Tick = lambda: None) -> Accuracy:
    network.model.eval()
    (found,) = evaluate([lambda images: network.features(images).logits], batches.test(size), tick)
    return found


def verify_teachers(dataset: str, model: str | None, data_dir: Path) -> Iterator[tuple[str, bool]]:
    """Yield a line and whether it is good for every checkpoint that is on this machine.

    On data that is not the official test set the accuracy is shown but cannot be compared.
    Raises UserError where there is no checkpoint, no data, or a file is unreadable.
    """
    teachers = [t for t in chosen(dataset, model) if checkpoint_file(t) is not None]
    if not teachers:
        raise UserError("no checkpoint is on this machine; run: bench teachers fetch")
    sidecar = require_dataset(dataset, data_dir)
    recipe = override(named_recipe("crd_240"), {"device": "cpu"})
    batches = open_batches(
        dataset, data_dir, seed=0, batch_size=recipe.batch_size, augmentation="none"
    )
    for teacher in teachers:
        network = Network(teacher.model, _load(teacher, batches.num_classes), recipe)
        accuracy = _measure(network, batches, recipe.eval_batch)
        line = (
            f"{teacher.model}: {accuracy.top1:.2f} % on {accuracy.images} images,"
            f" published {teacher.accuracy:.2f} %, sha256 {checkpoint_digest(teacher)}"
        )
        if not sidecar.official:
            digest = dataset_identity(dataset, data_dir)["digest"]
            yield f"{line}; not comparable: other data ({digest[:19]})", True
        elif abs(accuracy.top1 - teacher.accuracy) > TOLERANCE:
            yield f"{line}; MISSED", False
        else:
            yield f"{line}; ok", True
