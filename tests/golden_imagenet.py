"""The reference numbers of the ImageNet recipes (golden-imagenet), and who checks which.

A test module names the cases that it checks in ``GOLDEN_IMAGENET = ("file:case", ...)``, a
literal; a case is an array or a beginning of its path. test_imagenet_coverage.py holds that every
array is claimed, or listed there with the reason why not.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


@cache
def archive(root: Path, name: str) -> dict[str, Any]:
    """Return the arrays of one file without the metadata."""
    file = np.load(root / "golden-imagenet" / f"golden_{name}.npz", allow_pickle=False)
    return {key: file[key] for key in file.files if key != "_meta_json"}


@cache
def settings(root: Path, name: str) -> Any:
    """Return one of the JSON files."""
    return json.loads((root / "golden-imagenet" / f"{name}.json").read_text())


def tensors(root: Path, name: str, case: str) -> dict[str, Tensor]:
    """Return fresh tensors of a case, by the rest of their names."""
    found = archive(root, name)
    return {
        key.removeprefix(f"{case}/"): torch.from_numpy(np.array(value))
        for key, value in found.items()
        if key.startswith(f"{case}/")
    }


def close(ours: Tensor, theirs: Tensor, rtol: float = 1e-10) -> None:
    """Hold that the largest difference is below ``rtol`` of the largest value."""
    assert ours.shape == theirs.shape
    scale = theirs.double().abs().max().item() or 1.0
    error = (ours.detach().double() - theirs.double()).abs().max().item() / scale
    assert error <= rtol, f"relative error {error:.2e}"
