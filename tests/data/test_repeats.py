"""Repeated augmentation: DeiT's order, and views with draws of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmark.data.open import open_batches
from benchmark.data.order import BatchPlan, repeated
from tests.golden_imagenet import archive

GOLDEN_IMAGENET = ("augmentation:repeated",)


def test_processes_take_turns_in_the_published_order(fixtures: Path) -> None:
    golden = archive(fixtures, "augmentation")
    permutation = golden["repeated/permutation_600_epoch0"]
    for processes in (1, 2, 4):
        for version in ("deit", "timm"):
            expected = golden[f"repeated/600_{processes}/{version}"]
            order = repeated(permutation, 3, expected.size)
            for process in range(processes):
                assert (order[process::processes] == expected[process]).all()
    for num_images in (10, 300):
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(num_images, generator=generator).numpy()
        for processes in (1, 2, 4):
            for version in ("deit", "timm"):
                expected = golden[f"repeated/{num_images}_{processes}/{version}"]
                ours = repeated(order, 3, expected.size)
                for process in range(processes):
                    assert (ours[process::processes] == expected[process]).all()
    assert (golden["repeated/permutation_600_epoch1"] != permutation).any()


def test_an_epoch_of_imagenet_is_as_long_as_the_published_one(fixtures: Path) -> None:
    for processes, samples in archive(fixtures, "augmentation")["repeated/imagenet_lengths"]:
        plan = BatchPlan(1_281_167, 0, 1024, drop_last=True, repeats=3)
        assert plan.steps_per_epoch * 1024 == processes * samples


def test_views_of_an_image_differ(digits: Path) -> None:
    settings = {"seed": 0, "batch_size": 30, "augmentation": "shift1", "drop_last": True}
    batches = open_batches("digits", digits, repeats=3, **settings)  # type: ignore[arg-type]
    whole = list(batches.epoch(1))
    assert len(whole) == 3
    first = whole[0]
    assert (first.indices.view(10, 3) == first.indices.view(10, 3)[:, :1]).all()
    views = first.images.view(10, 3, -1)
    assert (views[:, 0] != views[:, 1]).any()
    (last,) = list(batches.epoch(1, 2))
    assert torch.equal(last.images, whole[2].images)
    # A first view is the image as it is without repeats.
    plain = open_batches("digits", digits, **settings)  # type: ignore[arg-type]
    found = {int(i): x for b in plain.epoch(1) for i, x in zip(b.indices, b.images, strict=True)}
    shared = [k for k in range(0, 30, 3) if int(first.indices[k]) in found]
    assert shared
    assert all(torch.equal(found[int(first.indices[k])], first.images[k]) for k in shared)


def test_views_are_numbered_by_their_place_in_the_epoch() -> None:
    plan = BatchPlan(10, 0, 4, repeats=3)
    order = plan.order(5)
    assert len(order) == 10
    samples = plan.views(order)
    assert (samples % 10 == order).all()
    assert (samples // 10 == np.arange(10) % 3).all()
    assert (plan.views(order[4:], 4) == samples[4:]).all()
