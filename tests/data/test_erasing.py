"""Random erasing: timm's boxes and statistics, noise by sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.data.erasing import box_size, erase, gaussian_noise, random_boxes
from tests.golden_imagenet import archive

GOLDEN_IMAGENET = (
    "augmentation:erasing/boxes",
    "augmentation:erasing/224",
    "augmentation:erasing/64",
    "augmentation:erasing/quantiles",
)


def test_boxes_have_timms_sizes(fixtures: Path) -> None:
    for row in archive(fixtures, "augmentation")["erasing/boxes"]:
        height, width, area, ratio, h, w, accepted = row
        found = box_size(int(height), int(width), np.array([area]), np.array([ratio]))
        assert (found[0][0], found[1][0]) == (h, w)
        assert (h < height and w < width) == bool(accepted)


@pytest.mark.parametrize("side", [224, 64])
def test_boxes_have_timms_statistics(side: int, fixtures: Path) -> None:
    golden = archive(fixtures, "augmentation")
    boxes = random_boxes(0, 0, np.arange(300_000), side, side, 0.25)
    erased = boxes[:, 2] > 0
    top, left, h, w = boxes[erased].T
    area, ratio = h * w / side**2, np.log(h / w)
    found = [
        erased.mean(),
        area.mean(),
        area.std(),
        h.mean(),
        w.mean(),
        top.mean(),
        left.mean(),
        ratio.mean(),
        ratio.std(),
    ]
    expected = golden[f"erasing/{side}/statistics"]
    np.testing.assert_allclose(found, expected, rtol=0.012, atol=0.006)
    levels = golden["erasing/quantiles"]
    quantiles = np.quantile(area, levels), np.quantile(h, levels)
    np.testing.assert_allclose(quantiles[0], golden[f"erasing/{side}/area_quantiles"], rtol=0.02)
    np.testing.assert_allclose(
        quantiles[1], golden[f"erasing/{side}/height_quantiles"], rtol=0.02, atol=1
    )


def test_noise_is_normal_and_of_its_key() -> None:
    noise = gaussian_noise(np.uint64(5), 1_000_001)
    assert noise.mean() == pytest.approx(0, abs=0.004)
    assert noise.std() == pytest.approx(1, abs=0.004)
    assert (noise**4).mean() == pytest.approx(3, abs=0.05)
    assert (gaussian_noise(np.uint64(5), 7) == noise[:7]).all()
    assert abs(np.corrcoef(noise, gaussian_noise(np.uint64(6), 1_000_001))[0, 1]) < 0.004
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 0.004


def test_boxes_are_filled_and_nothing_else() -> None:
    samples = np.arange(40)
    boxes = random_boxes(1, 2, samples, 20, 30, 0.5)
    images = torch.zeros(40, 3, 20, 30)
    erase(images, boxes, 1, 2, samples)
    for image, (top, left, height, width) in zip(images, boxes, strict=True):
        assert bool((image != 0).sum() == 3 * height * width)
        assert bool((image[:, top : top + height, left : left + width] != 0).all())
    # A sample has the same box and noise wherever it stands in a batch.
    alone = torch.zeros(2, 3, 20, 30)
    own = np.array([17, 4])
    erase(alone, random_boxes(1, 2, own, 20, 30, 0.5), 1, 2, own)
    assert torch.equal(alone, images[[17, 4]])
