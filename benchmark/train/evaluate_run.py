"""Measure the network that a run left, on the test images of its own data or of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmark.base.errors import UserError, nearest
from benchmark.data.augment import normalised_by
from benchmark.data.augmentations import augmentation_info
from benchmark.data.batches import Batch
from benchmark.data.datasets import (
    dataset_identity,
    dataset_info,
    described,
    require_dataset,
)
from benchmark.data.open import open_batches
from benchmark.run.directory import RunDir
from benchmark.run.identity import DatasetRef, Run
from benchmark.train.about import read_about
from benchmark.train.evaluate import Accuracy, evaluate
from benchmark.train.trained import load_student


class Remeasured(NamedTuple):
    """What a network gets right; ``recorded``: its run's own top-1, None on other data."""

    run: str
    dataset: str
    accuracy: Accuracy
    recorded: float | None

    @property
    def agrees(self) -> bool:
        """Whether it is what the run recorded, if that can be said."""
        return self.recorded is None or abs(self.accuracy.top1 - self.recorded) < 1e-6


def evaluate_run(
    rundir: RunDir, data_dir: Path, dataset: str | None = None, device: str = "cpu"
) -> Remeasured:
    """Measure a run's network on the test images of ``dataset``, its own by default.

    Other data is normalised as the network's own was, and its classes are found among the
    network's by name. Raises UserError for a run without a network, data that is not there, and
    classes that the network does not know.
    """
    student = load_student(rundir, device)
    run = student.run
    name = dataset or run.dataset.name
    sidecar = require_dataset(name, data_dir)
    same = DatasetRef(**dataset_identity(name, data_dir)) == run.dataset
    labels = None if name == run.dataset.name else _places(rundir, sidecar.classes, name)
    torch.set_num_threads(run.recipe.threads)
    recipe = run.recipe
    offered = augmentation_info(recipe.augmentation).readers
    batches = open_batches(
        name,
        data_dir,
        reader="resident" if "resident" in offered else "ffcv",
        seed=run.seed,
        batch_size=recipe.batch_size,
        augmentation=recipe.augmentation,
        crop_size=recipe.crop_size,
        test_interpolation=recipe.test_interpolation,
        device=device,
        channels_last=recipe.channels_last,
        workers=recipe.threads,
    )
    turn = _renormalisation(run, name, data_dir, device)

    def as_trained(batch: Batch) -> Batch:
        told = batch.labels if labels is None else labels.to(device)[batch.labels]
        turned = batch.images if turn is None else batch.images * turn[0] + turn[1]
        return batch._replace(images=turned, labels=told)

    tests = (as_trained(batch) for batch in batches.test(recipe.eval_batch))
    (accuracy,) = evaluate([student], tests)
    recorded = rundir.read_result()["metrics"]["top1"]["last"] if same else None
    return Remeasured(run.key, name, accuracy, recorded)


def _places(rundir: RunDir, classes: tuple[str, ...], dataset: str) -> Tensor:
    """Return the network's number of each class of other data."""
    known = [str(name) for name in read_about(rundir.weights).get("classes", [])]
    odd = [name for name in classes if name not in known]
    if odd:
        raise UserError(
            f"{rundir.key} does not know the class '{odd[0]}' of {dataset}"
            f"{nearest(odd[0], known)} (it has {len(known)} classes: {', '.join(known[:3])}, ...)"
        )
    return torch.tensor([known.index(name) for name in classes])


def _renormalisation(
    run: Run, dataset: str, data_dir: Path, device: str
) -> tuple[Tensor, Tensor] | None:
    """Return factors and summands from other data's normalisation to a run's; None if alike."""
    augmentation = augmentation_info(run.recipe.augmentation)
    own = normalised_by(described(run.dataset.name, run.dataset.own), augmentation)
    other = normalised_by(dataset_info(dataset, data_dir=data_dir), augmentation)
    if (own.mean, own.std) == (other.mean, other.std):
        return None
    values = (torch.tensor(v, device=device) for v in (own.mean, own.std, other.mean, other.std))
    mean, std, other_mean, other_std = (value[:, None, None] for value in values)
    return other_std / std, (other_mean - mean) / std


def evaluation_to_json(found: Remeasured) -> dict[str, Any]:
    """Return an evaluation as JSON values."""
    return {
        "schema": 1,
        "run": found.run,
        "dataset": found.dataset,
        "images": found.accuracy.images,
        "top1": found.accuracy.top1,
        "top5": found.accuracy.top5,
        "recorded_top1": found.recorded,
        "agrees": found.agrees,
    }


def describe_evaluation(found: Remeasured) -> str:
    """Return an evaluation as a line."""
    top1, top5, _, images = found.accuracy
    line = f"{found.run}: {top1:.2f} % top-1, {top5:.2f} % top-5 on {images:,} test images of"
    line += f" {found.dataset}"
    if found.recorded is None:
        return line
    word = "as recorded" if found.agrees else f"recorded were {found.recorded:.2f} %"
    return f"{line}; {word}"
