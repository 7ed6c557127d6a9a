"""timm's whole training transform on photographs, and that nothing but the sample decides it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.base.errors import UserError
from benchmark.base.share import Shard
from benchmark.base.torchvision_shim import make_torchvision_importable
from benchmark.data.augment import Normalise
from benchmark.data.augmentations import augmentation_info
from benchmark.data.batches import Batch, Batches
from benchmark.data.datasets import dataset_info
from benchmark.data.erasing import erase, random_boxes
from benchmark.data.formats import read_layout
from benchmark.data.open import open_batches
from benchmark.data.order import BatchPlan
from benchmark.data.randaugment import LAYERS, random_operations
from benchmark.data.randaugment_ops import FILL, NAMES
from benchmark.data.resized_crop import random_rows
from benchmark.data.sidecar import split_path
from benchmark.table.recipe import Mixing
from tests.data.test_ffcv import equal, pillow

pytestmark = pytest.mark.slow  # timm's transform compiles for half a minute

INFO = augmentation_info("imagenet_timm")
SETTINGS: dict[str, Any] = {
    "reader": "ffcv",
    "seed": 1,
    "batch_size": 8,
    "augmentation": "imagenet_timm",
    "drop_last": True,
    "repeats": 3,
}


@pytest.fixture(scope="module")
def batches(imagenette_dir: Path) -> Batches:
    return open_batches("imagenette", imagenette_dir, **SETTINGS)


@pytest.fixture(scope="module")
def first(batches: Batches) -> list[Batch]:
    """The batches of epoch 2."""
    return list(batches.epoch(2))


def _timms(image: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Apply a row's operations by timm's functions, as timm calls them."""
    from timm.data import auto_augment

    settings: dict[str, Any] = {"fillcolor": FILL, "resample": Image.Resampling.BICUBIC}
    picture = Image.fromarray(image)
    for layer in np.split(row, LAYERS):
        name = NAMES[int(layer[0])]
        given = [layer[1]]
        if layer[0] < 0:
            continue
        if name == "Rotate":  # the row holds the map; the angle is in its sine
            given = [math.degrees(math.atan2(-layer[2], layer[1]))]
        elif name == "ShearX":
            given = [layer[2]]
        elif name == "ShearY":
            given = [layer[4]]
        elif name.startswith("Translate"):
            given = [layer[3 if name == "TranslateXRel" else 6] / 224]
        elif name in ("AutoContrast", "Equalize", "Invert"):
            given = []
        elif name in ("PosterizeIncreasing", "SolarizeIncreasing", "SolarizeAdd"):
            given = [int(layer[1])]
            if name == "PosterizeIncreasing" and not given[0]:
                return np.zeros_like(image)
        picture = auto_augment.NAME_TO_OP[name](picture, *given, **settings)
    return np.asarray(picture)


def test_training_images_are_timms(
    first: list[Batch], imagenette_dir: Path, imagenette: Path
) -> None:
    make_torchvision_importable()
    files = sorted((imagenette / "train").glob("*/*"))
    layout = read_layout(split_path("imagenette", imagenette_dir, "train"))
    plan = BatchPlan(len(files), 1, 8, drop_last=True, repeats=3)
    order = plan.order(2)
    samples = plan.views(order)
    rows = random_rows(
        1, 2, samples, layout.heights[order], layout.widths[order], 224, INFO.area, INFO.ratio, 1
    )
    operations = random_operations(1, 2, samples, 224)
    normalise = Normalise(dataset_info("imagenette"), 224, torch.device("cpu"), False)
    boxes = random_boxes(1, 2, samples, 224, 224, INFO.erasing)
    assert 0 < (boxes[:, 2] > 0).mean() < 0.5
    for number, batch in enumerate(first[:3]):
        own = slice(8 * number, 8 * number + 8)
        assert batch.indices.tolist() == order[own].tolist()
        images = [
            _timms(np.ascontiguousarray(pillow(files[index], row)), operation)
            for index, row, operation in zip(order[own], rows[own], operations[own], strict=True)
        ]
        expected = normalise(torch.from_numpy(np.stack(images)))
        erase(expected, boxes[own], 1, 2, samples[own])
        # A rotation's angle is read back from its sine: a grey level may fall on the other side.
        apart = (batch.images != expected).float().mean().item()
        assert apart < 1e-4, apart


def test_pixels_do_not_depend_on_workers_or_the_start(
    first: list[Batch], imagenette_dir: Path
) -> None:
    other = open_batches("imagenette", imagenette_dir, **SETTINGS, workers=2)
    resumed = list(other.epoch(2, start=4))
    assert len(resumed) == len(first) - 4
    assert all(equal(a, b) for a, b in zip(resumed, first[4:], strict=True))
    assert not torch.equal(next(other.epoch(3)).images, first[0].images)


def test_pixels_do_not_depend_on_the_batch(first: list[Batch], imagenette_dir: Path) -> None:
    other = open_batches("imagenette", imagenette_dir, **{**SETTINGS, "batch_size": 16})
    ours = next(other.epoch(2))
    theirs = torch.cat([first[0].images, first[1].images])
    assert torch.equal(ours.images, theirs)


def test_test_images_are_bicubic_and_cut_at_the_centre(batches: Batches, imagenette: Path) -> None:
    make_torchvision_importable()
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize

    files = sorted((imagenette / "val").glob("*/*"))
    normalise = Normalise(dataset_info("imagenette"), 224, torch.device("cpu"), False)
    batch = next(batches.test(7))
    images = []
    for file in files[:7]:
        with Image.open(file) as image:
            small = Resize(256, InterpolationMode.BICUBIC)(image.convert("RGB"))
            images.append(np.array(CenterCrop(224)(small)))
    assert torch.equal(batch.images, normalise(torch.from_numpy(np.stack(images))))


def test_crops_of_another_size_and_range(imagenette_dir: Path) -> None:
    settings: dict[str, Any] = {"reader": "ffcv", "seed": 0, "batch_size": 4, "drop_last": True}
    small = open_batches(
        "imagenette",
        imagenette_dir,
        **settings,
        augmentation="imagenet_funmatch",
        crop_size=32,
        mix=Mixing(mixup=1.0, partner="previous", larger=True),
    )
    assert small.image_shape == (3, 32, 32)
    batch = next(small.epoch(1))
    assert batch.images.shape == (4, 3, 32, 32)
    assert batch.images.abs().max() <= 1.0 + 1e-6
    assert batch.images.min() < -0.5


def test_a_size_needs_crops(digits_dir: Path) -> None:
    with pytest.raises(UserError, match="keeps the size of its images"):
        open_batches("digits", digits_dir, seed=0, batch_size=4, augmentation="none", crop_size=8)


def test_processes_read_their_replicas_images_alone(
    imagenette_dir: Path, first: list[Batch]
) -> None:
    settings = SETTINGS | {"drop_last": True}
    own = [
        list(open_batches("imagenette", imagenette_dir, **settings, share=share).epoch(2, 1))
        for share in (Shard(4, 0, 2), Shard(4, 1, 2))
    ]
    for whole, *parts in zip(first[1:], *own, strict=True):
        order = torch.arange(8).view(2, 4).T.flatten()  # replica by replica
        assert torch.equal(torch.cat([part.images for part in parts]), whole.images[order])
        assert torch.equal(torch.cat([part.indices for part in parts]), whole.indices[order])
        assert {part.whole for part in parts} == {8}
