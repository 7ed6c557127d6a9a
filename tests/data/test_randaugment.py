"""RandAugment: timm's operations and draws, to the byte."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark.base.torchvision_shim import make_torchvision_importable
from benchmark.data.randaugment import (
    LAYERS,
    MAGNITUDE,
    PROBABILITY,
    SPREAD,
    arguments,
    level_argument,
    normal,
    random_operations,
)
from benchmark.data.randaugment_ops import FILL, NAMES, NUMBERS, apply_operation
from benchmark.data.rng import draws, stream_key, uniform
from tests.golden_imagenet import archive

GOLDEN_IMAGENET = (
    "augmentation:randaugment/ops",
    "augmentation:randaugment/levels",
    "augmentation:randaugment/argument",
    "augmentation:randaugment/noisy_magnitude",
    "augmentation:randaugment/clipped_magnitude",
    "augmentation:randaugment/clip_statistics",
    "augmentation:randaugment/image",
    "augmentation:randaugment/out",
)


def applied(image: np.ndarray, name: str, level: float, negative: bool) -> np.ndarray:
    pixels = image.copy()
    numbers = arguments(name, level_argument(name, level, negative), image.shape[0])
    apply_operation(pixels, NAMES.index(name), np.array(numbers))
    return pixels


def photograph(rng: np.random.Generator, side: int = 48) -> np.ndarray:
    y, x = np.mgrid[0:side, 0:side]
    waves = [127 + 110 * np.sin(0.1 * x + c) * np.cos(0.08 * y - c) for c in range(3)]
    noisy = np.stack(waves, -1) + rng.normal(0, 15, (side, side, 3))
    return np.clip(noisy, 0, 255).round().astype(np.uint8)


def test_levels_mean_what_they_mean_to_timm(fixtures: Path) -> None:
    golden = archive(fixtures, "augmentation")
    assert tuple(golden["randaugment/ops"]) == NAMES
    for i, name in enumerate(NAMES):
        for j, level in enumerate(golden["randaugment/levels"]):
            for k, negative in enumerate((False, True)):
                found = level_argument(name, float(level), negative)
                expected = golden["randaugment/argument"][i, j, k]
                assert found == expected or (math.isnan(found) and math.isnan(expected))


def test_magnitudes_are_clipped(fixtures: Path) -> None:
    golden = archive(fixtures, "augmentation")
    clipped = np.clip(golden["randaugment/noisy_magnitude"], 0.0, 10.0)
    assert (clipped == golden["randaugment/clipped_magnitude"]).all()
    samples = np.arange(400_000)
    first, second = (uniform(draws(stream_key(0, 0, "test", k), samples)) for k in (0, 1))
    magnitudes = MAGNITUDE + SPREAD * normal(first, second)
    share, mean, std = golden["randaugment/clip_statistics"]
    assert (magnitudes > 10).mean() == pytest.approx(share, rel=0.03)
    assert np.clip(magnitudes, 0, 10).mean() == pytest.approx(mean, abs=0.003)
    assert np.clip(magnitudes, 0, 10).std() == pytest.approx(std, abs=0.003)


def test_operations_give_the_reference_bytes(fixtures: Path) -> None:
    golden = archive(fixtures, "augmentation")
    image = golden["randaugment/image"]
    cases = [key for key in golden if key.startswith("randaugment/out/")]
    assert len(cases) == 48
    for case in cases:
        _, _, name, sign, level = case.split("/")
        found = applied(image, name, float(level), sign == "minus")
        assert (found == golden[case]).all(), case


@pytest.mark.parametrize("name", NAMES)
def test_operations_give_pillows_bytes(name: str) -> None:
    make_torchvision_importable()
    from timm.data import auto_augment

    rng = np.random.default_rng(NAMES.index(name))
    settings = {"fillcolor": FILL, "resample": Image.Resampling.BICUBIC}
    for trial in range(12):
        image = photograph(rng)
        if trial == 0:  # what has no contrast cannot be stretched
            image[:] = 77
        level = float(np.clip(rng.normal(9, 0.5), 0, 9.99))
        argument = level_argument(name, level, bool(trial % 2))
        given: tuple[Any, ...] = () if math.isnan(argument) else (argument,)
        if name in ("PosterizeIncreasing", "SolarizeIncreasing", "SolarizeAdd"):
            given = (int(argument),)
        theirs = auto_augment.NAME_TO_OP[name](Image.fromarray(image), *given, **settings)
        ours = applied(image, name, level, bool(trial % 2))
        assert (ours == np.asarray(theirs)).all()


def test_posterising_to_no_bits_is_black() -> None:
    # As up to Pillow 12, in the published runs; Pillow 13 raises a ValueError.
    image = photograph(np.random.default_rng(0))
    assert level_argument("PosterizeIncreasing", 10.0, False) == 0
    assert not applied(image, "PosterizeIncreasing", 10.0, False).any()


class _Draws:
    """Stands in for the module random inside timm, and hands out the draws of one sample."""

    def __init__(self, sample: int) -> None:
        def draw(number: int) -> float:
            key = stream_key(3, 7, "randaugment", number)
            return float(uniform(draws(key, np.array([sample])))[0])

        self.kinds = [int(draw(6 * layer) * len(NAMES)) for layer in range(LAYERS)]
        self._layers = [[draw(6 * layer + k) for k in range(1, 5)] for layer in range(LAYERS)]
        self._uniform: list[float] = []
        self._normal = 0.0

    def choice(self, ops: list[Any], count: int, **_: Any) -> list[Any]:
        def told(op: Any, layer: list[float]) -> Any:
            def call(image: Any) -> Any:
                self._uniform = layer[:2]
                self._normal = float(normal(np.array(layer[2]), np.array(layer[3])))
                return op(image)

            return call

        pairs = zip(self.kinds, self._layers, strict=True)
        return [told(ops[kind], layer) for kind, layer in pairs]

    def random(self) -> float:
        return self._uniform.pop(0)

    def gauss(self, mean: float, spread: float) -> float:
        return mean + spread * self._normal


def test_given_the_same_draws_the_bytes_are_timms(monkeypatch: pytest.MonkeyPatch) -> None:
    make_torchvision_importable()
    from timm.data import auto_augment

    transform = auto_augment.rand_augment_transform(
        "rand-m9-mstd0.5-inc1",
        {"translate_const": 21, "img_mean": FILL, "interpolation": Image.Resampling.BICUBIC},
    )
    rng = np.random.default_rng(0)
    samples = np.arange(400)
    rows = random_operations(3, 7, samples, 48)
    applications = compared = 0
    for sample, row in zip(samples.tolist(), rows, strict=True):
        image = photograph(rng)
        given = _Draws(sample)
        monkeypatch.setattr(auto_augment, "random", given)
        monkeypatch.setattr(auto_augment.np.random, "choice", given.choice)
        ours = image.copy()
        for layer in np.split(row, LAYERS):
            applications += layer[0] >= 0
            apply_operation(ours, int(layer[0]), layer[1 : 1 + NUMBERS].copy())
        with contextlib.suppress(ValueError):  # Pillow 13, asked to keep 0 bits
            theirs = np.asarray(transform(Image.fromarray(image)))
            assert (ours == theirs).all(), sample
            compared += 1
    assert compared >= 395
    assert applications / (LAYERS * len(samples)) == pytest.approx(PROBABILITY, abs=0.05)


def test_operations_are_drawn_evenly_and_by_sample() -> None:
    samples = np.arange(30_000)
    rows = random_operations(0, 0, samples, 224)
    kinds = rows[:, [0, 1 + NUMBERS]]
    counts = np.bincount(kinds[kinds >= 0].astype(int), minlength=len(NAMES))
    assert counts.min() > 0.9 * counts.mean()
    assert counts.max() < 1.1 * counts.mean()
    assert (kinds < 0).all(axis=1).mean() == pytest.approx(0.25, abs=0.01)
    again = random_operations(0, 0, samples[[5, 3, 5]], 224)
    assert (again == rows[[5, 3, 5]]).all()
    assert (random_operations(0, 1, samples[:100], 224) != rows[:100]).any()
