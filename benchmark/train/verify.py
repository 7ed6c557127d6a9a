"""Measure public teacher checkpoints against their published accuracy, before anything trains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from benchmark.data.datasets import dataset_identity, dataset_info, require_dataset
from benchmark.data.open import open_batches
from benchmark.errors import UserError
from benchmark.models import build_model
from benchmark.models.checkpoint import load_into, load_state
from benchmark.recipe import named_recipe, override
from benchmark.teachers import checkpoint_digest, checkpoint_file, chosen
from benchmark.train.evaluate import evaluate
from benchmark.train.network import Network
from benchmark.train.rng import seeded

# Published accuracies are rounded to 0.01; other hardware moves one image in ten thousand.
TOLERANCE = 0.05


def check_checkpoint(dataset: str, model: str) -> None:
    """Load a public checkpoint into its network; UserError where it is damaged or does not fit."""
    (teacher,) = chosen(dataset, model)
    path = checkpoint_file(teacher)
    assert path is not None, "planned from a file that is there"
    with seeded(0, "teacher"):
        built = build_model(model, dataset_info(dataset).num_classes)
    load_into(built, load_state(path), str(path))


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
        path = checkpoint_file(teacher)
        assert path is not None
        with seeded(0, "teacher"):
            built = build_model(teacher.model, batches.num_classes)
        load_into(built, load_state(path), str(path))
        network = Network(teacher.model, built, recipe)
        network.model.eval()

        def predict(images: Tensor, network: Network = network) -> Tensor:
            return network.features(images).logits

        (accuracy,) = evaluate([predict], batches.test(recipe.eval_batch))
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
