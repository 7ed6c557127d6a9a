"""What a student.safetensors says of its network, for whoever finds the file alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open

from benchmark.base.files import open_regular
from benchmark.data.augment import normalised_by
from benchmark.data.augmentations import augmentation_info
from benchmark.data.datasets import described, image_side
from benchmark.run.identity import Run

_KEY = "about"


def about_student(run: Run, classes: Sequence[str]) -> dict[str, str]:
    """Return the metadata of a run's network: one text, since several have no order in a file.

    Under ``about``, as JSON: network, dataset, classes, image_size, mean and std, methods, run.
    """
    return {_KEY: json.dumps(about_of(run, classes), sort_keys=True)}


def about_of(run: Run, classes: Sequence[str]) -> dict[str, Any]:
    """Return what is said of a run's network, as JSON values."""
    info = described(run.dataset.name, run.dataset.own)
    normalised = normalised_by(info, augmentation_info(run.recipe.augmentation))
    return {
        "network": run.model,
        "dataset": run.dataset.name,
        "classes": list(classes),
        "image_size": image_side(info, run.recipe),
        "mean": list(normalised.mean),
        "std": list(normalised.std),
        "methods": [method.name for method in run.methods],
        "run": run.key,
    }


def read_about(path: Path) -> dict[str, Any]:
    """Return what a safetensors file says of its network, empty if it says nothing."""
    with open_regular(path):  # a pipe would keep the reader waiting
        pass
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    try:
        found = json.loads(metadata.get(_KEY, "{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
