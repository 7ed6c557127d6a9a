"""Mixup and CutMix against timm's and FunMatch's numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.data.mixing import (
    Box,
    Mix,
    cutmix_box,
    draw_mix,
    mixed_images,
    mixed_targets,
    partners,
)
from benchmark.data.open import open_batches
from benchmark.table.recipe import Mixing
from tests.golden_imagenet import archive, close, tensors

GOLDEN_IMAGENET = (
    "mixing:in",
    "mixing:boxes",
    "mixing:batch_mixup_0.3",
    "mixing:batch_mixup_0.3_nosmooth",
    "mixing:batch_cutmix_0.6",
    "mixing:batch_cutmix_0.6_corner",
    "mixing:exact",
    "mixing:funmatch_mixup_0.3",
    "mixing:funmatch_mixup_0.8",
)
TIMM = Mixing(mixup=0.8, cutmix=1.0)


def test_boxes_are_those_of_both_timms(fixtures: Path) -> None:
    for row in archive(fixtures, "mixing")["boxes"]:
        version, height, width, share, y, x, top, bottom, left, right, corrected = row
        box, left_over = cutmix_box(int(height), int(width), share, int(y), int(x), version == 0)
        assert box == (top, bottom, left, right)
        assert left_over == pytest.approx(corrected, abs=1e-12)


BATCHES = {
    "batch_mixup_0.3": (Mix(0.3), None, 0.1),
    "batch_mixup_0.3_nosmooth": (Mix(0.3), None, 0.0),
    "batch_cutmix_0.6": (Mix(0.6), (5, 4), 0.1),
    "batch_cutmix_0.6_corner": (Mix(0.6), (0, 9), 0.1),
}


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("case", BATCHES)
def test_batches_are_timms(case: str, even: bool, fixtures: Path) -> None:
    given = tensors(fixtures, "mixing", "in")
    expected = tensors(fixtures, "mixing", f"{case}/{'old' if even else 'new'}")
    mix, centre, smoothing = BATCHES[case]
    if centre is not None:
        mix = Mix(*reversed(cutmix_box(12, 10, mix.share, *centre, even)))
    other = partners(TIMM, 4, 0, 0, 0)
    close(mixed_images(given["x"], other, mix), expected["x"])
    targets = mixed_targets(given["label"], other, mix.share, 10, smoothing)
    close(targets, expected["y"], 1e-7)
    exact = tensors(fixtures, "mixing", f"exact/{case}")
    if exact:
        close(targets, exact["y"], 1e-6)


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_funmatch_mixes_with_the_sample_before(share: float, fixtures: Path) -> None:
    given = tensors(fixtures, "mixing", "in")
    expected = tensors(fixtures, "mixing", f"funmatch_mixup_{share}")
    mixing = Mixing(mixup=1.0, partner="previous", larger=True)
    mix, other = Mix(max(share, 1 - share)), partners(mixing, 4, 0, 0, 0)
    close(mixed_images(given["x"], other, mix), expected["x"])
    close(mixed_targets(given["label"], other, mix.share, 10, 0.0), expected["y"], 1e-6)
    assert all(draw_mix(mixing, 0, 0, step, 8, 8).share >= 0.5 for step in range(50))


def test_draws_are_a_function_of_seed_epoch_and_step() -> None:
    mixes = [draw_mix(TIMM, 0, 1, step, 224, 224) for step in range(4000)]
    assert draw_mix(TIMM, 0, 1, 17, 224, 224) == mixes[17]
    assert draw_mix(TIMM, 1, 1, 17, 224, 224) != mixes[17]
    assert draw_mix(TIMM, 0, 2, 17, 224, 224) != mixes[17]
    cut = [mix for mix in mixes if mix.box is not None]
    assert len(cut) / len(mixes) == pytest.approx(0.5, abs=0.03)
    shares = np.array([mix.share for mix in mixes if mix.box is None])
    # Beta(0.8, 0.8): variance 1 / (4 (2 * 0.8 + 1)).
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.var() == pytest.approx(1 / (4 * 2.6), rel=0.06)
    rare = Mixing(cutmix=1.0, prob=0.25)
    shares = np.array([draw_mix(rare, 0, 1, step, 8, 8).share for step in range(2000)])
    assert (shares == 1.0).mean() == pytest.approx(0.75, abs=0.05)  # some boxes are empty, too
    random = Mixing(mixup=1.0, partner="random")
    assert sorted(partners(random, 9, 0, 0, 0).tolist()) == list(range(9))
    assert partners(random, 9, 0, 0, 0).tolist() == partners(random, 9, 0, 0, 0).tolist()


def test_nothing_of_the_callers_images_is_written() -> None:
    images = torch.rand(4, 3, 6, 6)
    before = images.clone()
    other = partners(TIMM, 4, 0, 0, 0)
    mixed_images(images, other, Mix(0.5, Box(1, 3, 2, 5)))
    mixed_images(images, other, Mix(0.3))
    assert torch.equal(images, before)


def test_a_resumed_epoch_mixes_as_before(digits: Path) -> None:
    settings = {"seed": 3, "batch_size": 20, "augmentation": "shift1", "drop_last": True}
    batches = open_batches("digits", digits, mix=TIMM, label_smoothing=0.1, **settings)  # type: ignore[arg-type]
    plain = open_batches("digits", digits, **settings)  # type: ignore[arg-type]
    whole, resumed = list(batches.epoch(2)), list(batches.epoch(2, 3))
    for ours, theirs in zip(resumed, whole[3:], strict=True):
        for name in ours._fields:
            a, b = getattr(ours, name), getattr(theirs, name)
            assert torch.equal(a, b) if a is not None else b is None, name
    for mixed, batch in zip(whole, plain.epoch(2), strict=True):
        assert mixed.targets is not None
        assert torch.equal(mixed.indices, batch.indices)
        torch.testing.assert_close(mixed.targets.sum(1), torch.ones(20))
        assert torch.equal(mixed.targets.argmax(1), mixed.labels)
    tests = next(batches.test(50)), next(plain.test(50))
    assert tests[0].targets is None
    assert torch.equal(tests[0].images, tests[1].images)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
@pytest.mark.parametrize("share", [0.3, 0.7182818, 1e-9])
def test_compiled_mixup_rounds_as_torch_does(layout: str, share: float) -> None:
    images = torch.randn(6, 3, 9, 10, generator=torch.Generator().manual_seed(0))
    if layout == "channels_last":
        images = images.contiguous(memory_format=torch.channels_last)
    if layout == "strided":
        images = images[:, :, ::2]
    other = torch.tensor([5, 0, 1, 2, 3, 3])
    expected = images * share + images[other] * (1 - share)
    found = mixed_images(images, other, Mix(share))
    assert torch.equal(found, expected)
    assert found.stride() == expected.stride()


def test_a_replica_without_an_image_mixes_nothing() -> None:
    """A last batch may have fewer images than there are replicas."""
    images = torch.empty(0, 3, 4, 4)
    assert mixed_images(images, torch.empty(0, dtype=torch.int64), Mix(0.3)).shape == images.shape
