from __future__ import annotations

import numpy as np

from benchmark.data.resized_crop import AREA, RATIO, centre_rows, random_rows

INDICES = np.arange(20_000)


def boxes(height: int, width: int, epoch: int = 0) -> np.ndarray:
    sizes = np.full_like(INDICES, height), np.full_like(INDICES, width)
    return random_rows(0, epoch, INDICES, *sizes, 224)


def test_crops_lie_in_the_image_and_have_the_asked_areas_and_ratios() -> None:
    rows = boxes(375, 500)
    top, left, height, width, new_height, new_width, y, x, flip, _ = rows.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 375).all()
    assert (left + width <= 500).all()
    area, ratio = height * width / (375 * 500), width / height
    assert AREA[0] * 0.98 < area.min() < 0.1
    assert 0.95 < area.max() <= AREA[1]
    assert RATIO[0] * 0.98 < ratio.min() < 0.76
    assert 1.3 < ratio.max() < RATIO[1] * 1.02
    # Uniform in its logarithm, apart from crops too tall to fit.
    assert abs(np.log(ratio[area < 0.4]).mean()) < 0.01
    assert ((new_height == 224) & (new_width == 224) & (y == 0) & (x == 0)).all()
    assert abs(flip.mean() - 0.5) < 0.02
    assert top.min() == 0
    assert (top + height).max() == 375


def test_a_sample_has_its_own_crop_in_every_epoch() -> None:
    rows, next_rows = boxes(375, 500), boxes(375, 500, epoch=1)
    assert len(np.unique(rows[:, :4], axis=0)) > 19_000
    assert (rows[:, :4] == next_rows[:, :4]).all(axis=1).mean() < 0.01
    sizes = np.full(3, 375), np.full(3, 500)
    assert (random_rows(0, 0, np.array([7, 3, 7]), *sizes, 224) == rows[[7, 3, 7]]).all()


def test_images_that_no_crop_fits_are_cut_at_their_centre() -> None:
    wide = random_rows(0, 0, np.array([0]), np.array([10]), np.array([1000]), 224)[0]
    assert wide[:4].tolist() == [0, 493, 10, 13]
    tall = random_rows(0, 0, np.array([0]), np.array([1000]), np.array([10]), 224)[0]
    assert tall[:4].tolist() == [493, 0, 13, 10]


def test_centre_crops_are_those_of_torchvision() -> None:
    heights, widths = np.array([375, 500, 256, 224, 301]), np.array([500, 375, 256, 300, 300])
    rows = centre_rows(heights, widths, 224)
    # Resize(256) truncates the long side; CenterCrop rounds half to even.
    assert rows[:, 4:6].tolist() == [[256, 341], [341, 256], [256, 256], [256, 342], [256, 256]]
    assert rows[:, 6:8].tolist() == [[16, 58], [58, 16], [16, 16], [16, 59], [16, 16]]
    assert (rows[:, :2] == 0).all()
    assert (rows[:, 8] == 0).all()
