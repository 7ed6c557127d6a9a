"""The ffcv reader against the resident one and against Pillow. Compiling takes seconds, so
readers are shared."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.base.errors import UserError
from benchmark.base.torchvision_shim import make_torchvision_importable
from benchmark.data.augment import Normalise
from benchmark.data.batches import Batch, Batches
from benchmark.data.datasets import dataset_info
from benchmark.data.ffcv_guard import kept_threads, require_ffcv
from benchmark.data.formats import read_layout, read_pixels
from benchmark.data.open import open_batches
from benchmark.data.resized_crop import random_rows
from benchmark.data.sidecar import split_path
from benchmark.data.write import write_dataset

if not os.environ.get("CI"):
    with kept_threads():
        pytest.importorskip("ffcv")

CIFAR = {"seed": 5, "batch_size": 2000, "augmentation": "crop_flip", "holdout": 500}


def cifar(folder: Path, **options: Any) -> Batches:
    return open_batches("cifar100", folder, **(CIFAR | options))


@pytest.fixture(scope="module")
def one_worker(cifar_dir: Path) -> Batches:
    return cifar(cifar_dir, reader="ffcv", workers=1)


@pytest.fixture(scope="module")
def two_workers(cifar_dir: Path) -> Batches:
    # Where only one CPU is seen, ffcv takes no more than one.
    return cifar(cifar_dir, reader="ffcv", workers=2, channels_last=True)


@pytest.fixture(scope="module")
def photographs(imagenette_dir: Path) -> Batches:
    return open_batches(
        "imagenette",
        imagenette_dir,
        reader="ffcv",
        seed=1,
        batch_size=16,
        augmentation="imagenet",
        holdout=20,
    )


def equal(one: Batch, other: Batch) -> bool:
    assert one.targets is None
    return all(torch.equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))


def test_both_readers_give_the_same_batches(cifar_dir: Path, one_worker: Batches) -> None:
    resident = cifar(cifar_dir)
    assert one_worker.steps_per_epoch == resident.steps_per_epoch == 5
    assert one_worker.image_shape == resident.image_shape
    assert torch.equal(one_worker.labels, resident.labels)
    for epoch in (0, 1):
        pairs = list(zip(resident.epoch(epoch), one_worker.epoch(epoch), strict=True))
        assert len(pairs) == 5
        assert all(equal(one, other) for one, other in pairs)
    for start in (3, 5):
        pairs = list(zip(resident.epoch(-1, start), one_worker.epoch(-1, start), strict=True))
        assert len(pairs) == 5 - start
        assert all(equal(one, other) for one, other in pairs)
    pairs = list(zip(resident.test(300), one_worker.test(300), strict=True))
    assert [len(one.labels) for one, _ in pairs] == [300, 300, 300, 16]
    assert all(equal(one, other) for one, other in pairs)
    pairs = list(zip(resident.validation(300), one_worker.validation(300), strict=True))
    assert [len(one.labels) for one, _ in pairs] == [300, 200]
    assert all(equal(one, other) for one, other in pairs)


@pytest.mark.slow
def test_workers_change_nothing(cifar_dir: Path, two_workers: Batches) -> None:
    resident = cifar(cifar_dir, channels_last=True)
    for start in (0, 2):
        pairs = list(zip(resident.epoch(1, start), two_workers.epoch(1, start), strict=True))
        assert all(equal(one, other) for one, other in pairs)
        assert pairs[0][1].images.is_contiguous(memory_format=torch.channels_last)


def test_passes_do_not_disturb_each_other(cifar_dir: Path, one_worker: Batches) -> None:
    """Batches outlive the next ones, and an epoch goes on while another is read or left."""
    expected = list(cifar(cifar_dir).epoch(0))
    epoch = one_worker.epoch(0)
    found = [next(epoch)]
    next(one_worker.epoch(4))
    found += epoch
    assert all(equal(one, other) for one, other in zip(expected, found, strict=True))


def test_a_pass_that_is_left_ends_its_thread(cifar_dir: Path, one_worker: Batches) -> None:
    """One that comes back from compiled code after the interpreter's end aborts the process."""
    from benchmark.data import ffcv_epoch

    def alive() -> list[threading.Thread]:
        return [t for t in threading.enumerate() if isinstance(t, ffcv_epoch.Epoch)]

    assert not alive()
    for leave in (lambda epoch: epoch.close(), lambda epoch: ffcv_epoch._close_all()):
        epoch = one_worker.epoch(0)
        next(epoch)
        assert len(alive()) == 1
        leave(epoch)
        assert not alive()


def test_thread_counts_are_kept(cifar_dir: Path, two_workers: Batches) -> None:
    before = torch.get_num_threads()
    for _ in two_workers.epoch(0, start=4):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before


def test_ffcv_itself_reads_our_files(cifar_dir: Path) -> None:
    with kept_threads():
        from ffcv.loader import Loader

        path = split_path("cifar100", cifar_dir, "test")
        loader = Loader(str(path), batch_size=400, num_workers=1, drop_last=False)
        found = [tuple(part.clone() for part in batch) for batch in loader]
    images, labels, indices = (torch.cat(parts) for parts in zip(*found, strict=True))
    layout = read_layout(path)
    assert (images.numpy() == read_pixels(layout)).all()
    assert labels.flatten().tolist() == layout.labels.tolist()
    assert indices.flatten().tolist() == list(range(916))


class Pictures:
    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.images = random.integers(0, 256, (250, 64, 64, 3), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int, int]:
        return self.images[index], int(index) % 7, int(index)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_files_of_ffcvs_own_writer_are_read(tmp_path: Path) -> None:
    with kept_threads():
        from ffcv.fields import IntField, RGBImageField
        from ffcv.writer import DatasetWriter

        fields = {"image": RGBImageField("raw"), "label": IntField(), "index": IntField()}
        path = tmp_path / "a.beton"
        writer = DatasetWriter(str(path), fields, page_size=1 << 21, num_workers=2)
        writer.from_indexed_dataset(Pictures(), chunksize=20)
    layout = read_layout(path)
    assert (read_pixels(layout) == Pictures().images).all()
    assert layout.labels.tolist() == [index % 7 for index in range(250)]


def pillow(path: Path, row: np.ndarray) -> np.ndarray:
    """One crop as torchvision makes it: cut, then resized rows first, columns second.

    (Pillow from 12.3 on takes the columns first where that is faster, one grey level apart.)
    """
    top, left, height, width, new_height, new_width, y, x, flip, kind = (int(n) for n in row[:10])
    with Image.open(path) as image:
        box = image.convert("RGB").crop((left, top, left + width, top + height))
    filtered = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)[kind]
    box = box.resize((new_width, height), filtered)
    box = box.resize((new_width, new_height), filtered)
    pixels = np.asarray(box)[y : y + 224, x : x + 224]
    return pixels[:, ::-1] if flip else pixels


def check_photographs(
    batches: list[Batch], imagenette: Path, expected: Callable[[Path, int], np.ndarray]
) -> None:
    files = sorted((imagenette / "train").glob("*/*"))
    classes = sorted(folder.name for folder in (imagenette / "train").iterdir())
    normalise = Normalise(dataset_info("imagenette"), 224, torch.device("cpu"), False)
    for batch in batches:
        indices = batch.indices.tolist()
        images = np.stack([expected(files[index], index) for index in indices])
        assert torch.equal(batch.images, normalise(torch.from_numpy(images)))
        names = [classes[label] for label in batch.labels.tolist()]
        assert names == [files[index].parent.name for index in indices]


@pytest.mark.slow
def test_training_photographs_are_decoded_and_resized_as_by_pillow(
    photographs: Batches, imagenette_dir: Path, imagenette: Path
) -> None:
    layout = read_layout(split_path("imagenette", imagenette_dir, "train"))
    everything = np.arange(layout.num_samples)
    rows = random_rows(1, 2, everything, layout.heights, layout.widths, 224)
    found = list(photographs.epoch(2, start=1))
    assert photographs.image_shape == tuple(found[0].images.shape[1:]) == (3, 224, 224)
    check_photographs(found, imagenette, lambda path, index: pillow(path, rows[index]))


@pytest.mark.slow
def test_other_photographs_are_those_of_torchvision(photographs: Batches, imagenette: Path) -> None:
    make_torchvision_importable()
    from torchvision.transforms import CenterCrop, Resize

    def expected(path: Path, _: int) -> np.ndarray:
        with Image.open(path) as image:
            return np.array(CenterCrop(224)(Resize(256)(image.convert("RGB"))))

    check_photographs(list(photographs.validation(7)), imagenette, expected)


@pytest.mark.slow
def test_an_image_that_cannot_be_decoded_ends_the_epoch(
    photographs: Batches, imagenette_dir: Path, tmp_path: Path
) -> None:
    """Not a hang, and not wrong pixels: ffcv gives either."""
    path = split_path("imagenette", imagenette_dir, "train")
    layout = read_layout(path)
    copy = tmp_path / "train.beton"
    shutil.copy(path, copy)
    reader: Any = photographs
    loader = reader._train_loader
    with copy.open("r+b") as file:
        file.seek(layout.pointers[3])
        file.write(bytes(500))
    # The compiled pipeline is kept; only the file below it is exchanged.
    mapped, loader.memory_manager.context.mmap = (
        loader.memory_manager.context.mmap,
        np.memmap(copy, np.uint8, "r"),
    )
    try:
        with pytest.raises(UserError, match="image 3 cannot be decoded; see: bench data verify"):
            list(photographs.epoch(0))
    finally:
        loader.memory_manager.context.mmap = mapped
    assert len(list(photographs.epoch(0))) == 3


def test_a_failing_stage_is_raised(one_worker: Batches, monkeypatch: pytest.MonkeyPatch) -> None:
    reader: Any = one_worker

    def fails(*_: Any) -> None:
        raise ZeroDivisionError("in a stage")

    monkeypatch.setattr(reader._train, "train_rows", fails)
    with pytest.raises(ZeroDivisionError, match="in a stage"):
        next(one_worker.epoch(0))


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "message"), [(0.0, "died"), (3.0, "no batch of .* in 0 s")])
def test_a_silent_pipeline_is_not_waited_for(
    one_worker: Batches, monkeypatch: pytest.MonkeyPatch, seconds: float, message: str
) -> None:
    from benchmark.data import ffcv_epoch

    monkeypatch.setattr(ffcv_epoch, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(ffcv_epoch.Epoch, "run", lambda self: time.sleep(seconds))
    with pytest.raises(RuntimeError, match=message):
        next(one_worker.epoch(0))


def test_photographs_need_crops(imagenette: Path, imagenette_dir: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"reader": "ffcv", "seed": 0, "batch_size": 8, "augmentation": "none"}
    with pytest.raises(UserError, match="needs uncompressed images of one size"):
        open_batches("imagenette", imagenette_dir, **options)
    folders = tmp_path / "images"
    shutil.copytree(imagenette, folders)
    odd = next((folders / "train").glob("*/*"))
    Image.new("RGB", (300, 200)).save(odd)
    write_dataset("imagenette", folders, tmp_path, allow_altered=True, storage="raw")
    with pytest.raises(UserError, match="needs uncompressed images of one size"):
        open_batches("imagenette", tmp_path, **options)


def test_no_workers(digits_dir: Path) -> None:
    with pytest.raises(UserError, match="at least 1 worker, not 0"):
        open_batches(
            "digits",
            digits_dir,
            reader="ffcv",
            seed=0,
            batch_size=8,
            augmentation="none",
            workers=0,
        )


def test_without_ffcv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="ffcv, which is not installed"):
        require_ffcv()
