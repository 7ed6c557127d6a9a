"""Datasets written once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.data.write import write_dataset


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the digits."""
    folder = tmp_path_factory.mktemp("digits")
    write_dataset("digits", None, folder)
    return folder


@pytest.fixture(scope="session")
def cifar_dir(tmp_path_factory: pytest.TempPathFactory, fixtures: Path) -> Path:
    """A data directory with real CIFAR-100 images, a subset."""
    folder = tmp_path_factory.mktemp("cifar")
    write_dataset("cifar100", fixtures / "data", folder, allow_altered=True)
    return folder


@pytest.fixture(scope="session")
def imagenette(tmp_path_factory: pytest.TempPathFactory, fixtures: Path) -> Path:
    """Class folders with six training and three test photographs of each of ten classes."""
    folder = tmp_path_factory.mktemp("imagenette-folders")
    for split, count in (("train", 6), ("val", 3)):
        for source in sorted((fixtures / "data/imagenette-subset" / split).iterdir()):
            target = folder / split / source.name
            target.mkdir(parents=True)
            for file in sorted(source.iterdir())[:count]:
                (target / file.name).symlink_to(file)
    return folder


@pytest.fixture(scope="session")
def imagenette_dir(tmp_path_factory: pytest.TempPathFactory, imagenette: Path) -> Path:
    """A data directory with these photographs."""
    folder = tmp_path_factory.mktemp("imagenette")
    write_dataset("imagenette", imagenette, folder, allow_altered=True)
    return folder
