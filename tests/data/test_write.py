from __future__ import annotations

import json
import os
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.base.errors import UserError
from benchmark.data import datasets, fetch, verify
from benchmark.data.datasets import dataset_identity, dataset_info, require_dataset
from benchmark.data.formats import read_layout, read_pixels
from benchmark.data.sidecar import sidecar_path, split_path
from benchmark.data.sources.pickles import read_images
from benchmark.data.verify import verify as verify_dataset
from benchmark.data.write import write_dataset


def test_digits_are_the_declared_dataset(digits_dir: Path) -> None:
    sidecar = verify_dataset("digits", digits_dir)
    info = dataset_info("digits")
    assert sidecar.official
    assert sidecar.digest == info.official_digest
    assert sidecar.image_size == (8, 8)
    train = read_layout(split_path("digits", digits_dir, "train"))
    test = read_layout(split_path("digits", digits_dir, "test"))
    assert np.bincount(train.labels).tolist() == [10] * 10
    assert (train.num_samples, test.num_samples) == (info.num_train, info.num_test)
    images = np.concatenate([read_pixels(train), read_pixels(test)])
    assert len(np.unique(images.reshape(1797, -1), axis=0)) == 1797
    assert (images[..., 0] == images[..., 2]).all()
    assert images.max() == 255
    assert abs(images.mean() / 255 - info.mean[0]) < 1e-4
    assert abs(images.std() / 255 - info.std[0]) < 1e-4


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    first = write_dataset("digits", None, tmp_path)
    files = {path.name: path.read_bytes() for path in (tmp_path / "digits").iterdir()}
    assert set(files) == {"train.beton", "test.beton", "dataset.json"}
    assert write_dataset("digits", None, tmp_path) == first
    assert {p.name: p.read_bytes() for p in (tmp_path / "digits").iterdir()} == files


def test_cifar_holds_the_pixels_of_the_pickles(cifar_dir: Path, fixtures: Path) -> None:
    for split, count in (("train", 9485), ("test", 916)):
        images, labels = read_images(
            fixtures / "data/cifar-100-python" / split, "fine_labels", num_classes=100
        )
        layout = read_layout(split_path("cifar100", cifar_dir, split))  # type: ignore[arg-type]
        assert layout.num_samples == count
        assert layout.labels.tolist() == labels
        assert (read_pixels(layout) == images).all()


def test_a_subset_needs_a_flag_and_is_recorded(
    tmp_path: Path, fixtures: Path, cifar_dir: Path
) -> None:
    with pytest.raises(UserError, match=r"not the official cifar100: md5 of train, test .*--allow"):
        write_dataset("cifar100", fixtures / "data", tmp_path)
    assert not (tmp_path / "cifar100").exists()
    sidecar = require_dataset("cifar100", cifar_dir)
    assert not sidecar.official
    assert sidecar.altered == "md5 of train, test is not the official one"
    assert len(sidecar.sources["train"]) == 32
    assert sidecar.classes[0] == "apple"
    declared = dataset_info("cifar100").official_digest
    assert dataset_identity("cifar100", tmp_path) == {"name": "cifar100", "digest": declared}
    assert dataset_identity("cifar100", cifar_dir)["digest"] == sidecar.digest != declared


def test_official_files_have_the_declared_identity(
    tmp_path: Path, fixtures: Path, cifar_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = require_dataset("cifar100", cifar_dir).sources
    info = dataset_info("cifar100")
    files = tuple((name, split, sources[name]) for name, split, _ in info.files)
    monkeypatch.setitem(datasets.DATASETS, "cifar100", replace(info, files=files))
    sidecar = write_dataset("cifar100", fixtures / "data/cifar-100-python", tmp_path)
    assert sidecar.official
    assert sidecar.altered is None
    assert dataset_identity("cifar100", tmp_path)["digest"] == info.official_digest


def test_other_data_is_not_replaced_unasked(tmp_path: Path, fixtures: Path) -> None:
    folders = class_folders(tmp_path / "images", [f"c{n}" for n in range(10)])
    first = write_dataset("cifar10", folders, tmp_path, allow_altered=True)
    Image.new("RGB", (32, 32), "red").save(folders / "train/c0/0.png")
    with pytest.raises(UserError, match=r"holds other cifar10 data .*--overwrite"):
        write_dataset("cifar10", folders, tmp_path, allow_altered=True)
    assert verify_dataset("cifar10", tmp_path) == first
    second = write_dataset("cifar10", folders, tmp_path, allow_altered=True, overwrite=True)
    assert verify_dataset("cifar10", tmp_path) == second != first


def class_folders(root: Path, classes: list[str], size: int = 32) -> Path:
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            image = random.integers(0, 256, (size, size, 3), dtype=np.uint8)
            Image.fromarray(image).save(root / split / name / "0.png")
    return root


def test_cifar10_from_class_folders(tmp_path: Path) -> None:
    folders = class_folders(tmp_path / "images", list("jihgfedcba"))
    sidecar = write_dataset("cifar10", folders, tmp_path, allow_altered=True)
    assert sidecar.classes == tuple("abcdefghij")
    assert sidecar.altered == "class folders carry no proof of being the official files"
    pixels = read_pixels(read_layout(split_path("cifar10", tmp_path, "train")))
    assert (pixels[9] == np.asarray(Image.open(folders / "train/j/0.png"))).all()


def test_cifar10_of_another_size(tmp_path: Path) -> None:
    folders = class_folders(tmp_path / "images", list("abcdefghij"), size=16)
    with pytest.raises(UserError, match="images of cifar10 must be 32x32 pixels"):
        write_dataset("cifar10", folders, tmp_path, allow_altered=True)
    assert list((tmp_path / "cifar10").iterdir()) == []


def test_a_full_disk_leaves_the_old_data(tmp_path: Path) -> None:
    written = write_dataset("digits", None, tmp_path)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(UserError, match=r"cannot write to .*digits: File too large"):
            write_dataset("digits", None, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert verify_dataset("digits", tmp_path) == written
    assert len(list((tmp_path / "digits").iterdir())) == 3


@pytest.mark.parametrize(
    ("name", "source", "options", "message"),
    [
        ("cifar_100", None, {}, r"unknown dataset 'cifar_100'; did you mean 'cifar100'\?"),
        ("cifar100", None, {}, "no cifar100 in .*downloads.*bench data fetch cifar100"),
        ("cifar10", Path("nowhere"), {}, "no cifar10 in nowhere"),
        ("digits", Path("nowhere"), {}, "take no source"),
        ("digits", None, {"storage": "jpeg"}, "stored raw"),
        ("imagenet", None, {}, "needs the folder of its images"),
        ("imagenet", Path("nowhere"), {}, "must hold the class folders"),
        ("imagenet", Path("x"), {"jpeg_quality": 0}, "quality goes from 1 to 100, not 0"),
        ("imagenet", Path("x"), {"max_resolution": 0}, "at least 1 pixel, not 0"),
    ],
)
def test_wrong_use(
    tmp_path: Path, name: str, source: Path | None, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        write_dataset(name, source, tmp_path, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_missing_data_names_the_path_and_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"not in {tmp_path}/cifar100; make it with: bench data w"):
        require_dataset("cifar100", tmp_path)


@pytest.fixture
def copied(digits_dir: Path, tmp_path: Path) -> Path:
    shutil.copytree(digits_dir, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_a_file_of_another_length(copied: Path) -> None:
    path = split_path("digits", copied, "test")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"test\.beton has 2463703 bytes, not 2463704"):
        require_dataset("digits", copied)
    path.unlink()
    with pytest.raises(UserError, match=r"test\.beton is missing"):
        require_dataset("digits", copied)


def test_a_changed_pixel_is_noticed(copied: Path) -> None:
    path = split_path("digits", copied, "test")
    content = bytearray(path.read_bytes())
    content[read_layout(path).pointers[700]] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="was changed after it was written"):
        verify_dataset("digits", copied)


def test_files_of_another_dataset(copied: Path) -> None:
    train, test = (split_path("digits", copied, split) for split in ("train", "test"))
    shutil.copy(test, train)
    sidecar = sidecar_path("digits", copied)
    text = sidecar.read_text().replace(": 2118752", ": 2463704")
    sidecar.write_text(text)
    with pytest.raises(UserError, match=r"holds 1697 images, dataset\.json says 100"):
        verify_dataset("digits", copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 9}, "has schema 9"),
        ({"name": "cifar10"}, "does not describe the dataset 'digits'"),
        ({"officiel": True}, "unknown key 'officiel'"),
        ({"num_classes": "ten"}, "num_classes"),
    ],
)
def test_broken_sidecars(copied: Path, change: dict[str, object], message: str) -> None:
    path = sidecar_path("digits", copied)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message):
        dataset_identity("digits", copied)
    path.write_text("{")
    with pytest.raises(UserError, match=r"dataset\.json cannot be read"):
        dataset_identity("digits", copied)


def test_info(digits_dir: Path, tmp_path: Path) -> None:
    there = verify.info("digits", digits_dir)
    assert there["sidecar"]["splits"]["train"]["num_samples"] == 100
    assert json.loads(json.dumps(there)) == there
    absent = verify.info("digits", tmp_path)
    assert absent["sidecar"] is None
    assert absent["identity"] == there["identity"]


def test_fetch_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="digits is not downloaded"):
        fetch.fetch("digits", tmp_path)
    with pytest.raises(UserError, match="must be obtained from its publisher"):
        fetch.fetch("imagenet", tmp_path)
    # A port that nothing listens on: refused at once, as without a network.
    monkeypatch.setitem(fetch.ARCHIVES, "cifar10", ("http://127.0.0.1:9/cifar.tar.gz", "0" * 32))
    with pytest.raises(UserError, match=r"cannot download .*offline, copy cifar\.tar\.gz to"):
        fetch.fetch("cifar10", tmp_path)


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    folder.mkdir()
    old, new = folder / ".train.beton.abc.tmp", folder / ".test.beton.def.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    seen: list[tuple[str, int, int]] = []
    write_dataset("digits", None, tmp_path, progress=lambda *done: seen.append(done))
    assert not old.exists()
    assert new.exists()
    assert seen[99:101] == [("train", 100, 100), ("test", 1, 1697)]
