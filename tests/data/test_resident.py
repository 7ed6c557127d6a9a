from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.base.errors import UserError
from benchmark.data.augmentations import augmentation_info
from benchmark.data.batches import Batch, Batches
from benchmark.data.datasets import dataset_info
from benchmark.data.formats import read_layout, read_pixels
from benchmark.data.open import open_batches
from benchmark.data.rng import below, draws, stream_key
from benchmark.data.sidecar import SplitName, sidecar_path, split_path
from benchmark.data.write import write_dataset


def digits(folder: Path, **options: Any) -> Batches:
    chosen = {"seed": 0, "batch_size": 32, "augmentation": "shift1"} | options
    return open_batches("digits", folder, **chosen)


def cifar(folder: Path, **options: Any) -> Batches:
    chosen = {"seed": 1, "batch_size": 1000, "augmentation": "crop_flip"} | options
    return open_batches("cifar100", folder, **chosen)


def pixels(name: str, folder: Path, split: SplitName) -> np.ndarray:
    return read_pixels(read_layout(split_path(name, folder, split)))


def normalised(name: str, images: np.ndarray) -> np.ndarray:
    """The usual three steps, in double precision: [.., H, W, 3] to [.., 3, H, W]."""
    info = dataset_info(name)
    return np.moveaxis((images / 255 - np.array(info.mean)) / np.array(info.std), -1, -3)


def equal(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))


@pytest.mark.parametrize("augmentation", ["none", "shift1", "crop_flip"])
def test_every_image_is_what_its_definition_says(cifar_dir: Path, augmentation: str) -> None:
    """Padded, cut and mirrored one by one with numpy, from the draws of its own index."""
    info = augmentation_info(augmentation)
    source = pixels("cifar100", cifar_dir, "train")
    batch = next(cifar(cifar_dir, augmentation=augmentation, batch_size=200).epoch(3))
    bits = draws(stream_key(1, 3, "crop_flip"), batch.indices.numpy())
    tops, lefts = below(bits, 2 * info.padding + 1, 0), below(bits, 2 * info.padding + 1, 16)
    seen = set()
    for number, index in enumerate(batch.indices.tolist()):
        image = np.pad(source[index], ((info.padding,) * 2, (info.padding,) * 2, (0, 0)))
        top, left = tops[number], lefts[number]
        image = image[top : top + 32, left : left + 32]
        flip = info.flip and int(bits[number]) >> 32 & 1 == 1
        image = image[:, ::-1] if flip else image
        difference = batch.images[number].numpy() - normalised("cifar100", image)
        assert abs(difference).max() < 2e-6
        seen.add((int(top), int(left), flip))
    assert len(seen) == {"none": 1, "shift1": 9}.get(augmentation, len(seen))
    assert augmentation != "crop_flip" or len(seen) > 100


def test_an_epoch_is_a_function_of_seed_and_epoch(cifar_dir: Path) -> None:
    batches = cifar(cifar_dir)
    whole = list(batches.epoch(2))
    assert len(whole) == batches.steps_per_epoch == 10
    assert sum(len(batch.labels) for batch in whole) == batches.num_train == 9485
    again = cifar(cifar_dir)
    list(again.epoch(-1))
    for start in (0, 4, 9, 10):
        rest = list(again.epoch(2, start=start))
        assert len(rest) == 10 - start
        assert all(equal(a, b) for a, b in zip(whole[start:], rest, strict=True))
    assert not torch.equal(whole[0].images, next(batches.epoch(-2)).images)
    assert not torch.equal(whole[0].images, next(cifar(cifar_dir, seed=2).epoch(2)).images)


def test_neither_batch_size_nor_memory_format_changes_an_image(cifar_dir: Path) -> None:
    first = next(cifar(cifar_dir).epoch(0))
    small = next(cifar(cifar_dir, batch_size=7, channels_last=True).epoch(0))
    assert small.images.is_contiguous(memory_format=torch.channels_last)
    assert first.images.is_contiguous()
    assert torch.equal(small.images, first.images[:7])


def test_batches_belong_to_the_caller(digits_dir: Path) -> None:
    batches = digits(digits_dir)
    first = next(batches.epoch(0))
    copy = first.images.clone()
    first.images.zero_()
    assert torch.equal(next(batches.epoch(0)).images, copy)


def test_labels_follow_their_images(cifar_dir: Path) -> None:
    batches = cifar(cifar_dir)
    stored = read_layout(split_path("cifar100", cifar_dir, "train")).labels
    assert batches.labels.tolist() == stored.tolist()
    for batch in batches.epoch(0):
        assert torch.equal(batch.labels, batches.labels[batch.indices])
        assert batch.labels.dtype == batch.indices.dtype == torch.int64


@pytest.mark.parametrize("channels_last", [False, True])
def test_tests_are_in_order_and_not_augmented(digits_dir: Path, channels_last: bool) -> None:
    batches = digits(digits_dir, channels_last=channels_last)
    found = list(batches.test(500))
    expected = normalised("digits", pixels("digits", digits_dir, "test"))
    assert [len(batch.labels) for batch in found] == [500, 500, 500, 197]
    assert abs(torch.cat([batch.images for batch in found]).numpy() - expected).max() < 2e-6
    assert torch.cat([batch.indices for batch in found]).tolist() == list(range(1697))
    labels = read_layout(split_path("digits", digits_dir, "test")).labels
    assert torch.cat([batch.labels for batch in found]).tolist() == labels.tolist()
    assert (batches.num_classes, batches.image_shape) == (10, (3, 8, 8))


def test_held_out_images(digits_dir: Path) -> None:
    batches = digits(digits_dir, holdout=20)
    held_out = list(batches.validation(16))
    indices = torch.cat([batch.indices for batch in held_out])
    expected = normalised("digits", pixels("digits", digits_dir, "train"))[indices]
    assert abs(torch.cat([batch.images for batch in held_out]).numpy() - expected).max() < 2e-6
    assert torch.equal(torch.cat([b.labels for b in held_out]), batches.labels[indices])
    trained = torch.cat([batch.indices for batch in batches.epoch(0)])
    assert sorted([*trained.tolist(), *indices.tolist()]) == list(range(100))
    assert (batches.num_train, batches.steps_per_epoch) == (100, 3)
    assert list(digits(digits_dir).validation(16)) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reader": "residnet"}, r"unknown reader 'residnet'; did you mean 'resident'\?"),
        ({"augmentation": "cropflip"}, r"unknown augmentation 'cropflip'; did you mean"),
        ({"augmentation": "imagenet"}, "'imagenet' needs the ffcv reader, not 'resident'"),
        ({"batch_size": 128, "drop_last": True}, "no batch is left"),
        ({"batch_size": 0}, "at least 1, not 0"),
        ({"holdout": 100}, "cannot hold out 100 of 100"),
    ],
)
def test_wrong_use(digits_dir: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        digits(digits_dir, **options)


def test_a_batch_larger_than_the_data(digits_dir: Path) -> None:
    (batch,) = digits(digits_dir, batch_size=512).epoch(0)
    assert sorted(batch.indices.tolist()) == list(range(100))


def test_changed_files_are_not_trained_on(digits_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(digits_dir, tmp_path, dirs_exist_ok=True)
    path = split_path("digits", tmp_path, "train")
    content = bytearray(path.read_bytes())
    content[read_layout(path).pointers[5]] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="was changed after it was written"):
        digits(tmp_path)


def test_labels_must_fit_the_classes(digits_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(digits_dir, tmp_path, dirs_exist_ok=True)
    path = sidecar_path("digits", tmp_path)
    path.write_text(path.read_text().replace('"num_classes": 10', '"num_classes": 9'))
    with pytest.raises(UserError, match="has label 9, but digits has 9 classes"):
        digits(tmp_path)


def test_compressed_images_need_the_other_reader(imagenette_dir: Path) -> None:
    with pytest.raises(UserError, match="compressed images: read it with the ffcv reader"):
        open_batches("imagenette", imagenette_dir, seed=0, batch_size=8, augmentation="none")


def test_raw_photographs_of_one_size(imagenette: Path, tmp_path: Path) -> None:
    write_dataset("imagenette", imagenette, tmp_path, allow_altered=True, storage="raw")
    options = {"seed": 0, "batch_size": 8, "augmentation": "none", "holdout": 10}
    batches = open_batches("imagenette", tmp_path, **options)  # type: ignore[arg-type]
    assert batches.image_shape == (3, 224, 224)
    assert sum(len(batch.labels) for batch in batches.epoch(0)) == 50


@pytest.mark.gpu
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_gpu_gives_the_same_bits(cifar_dir: Path, channels_last: bool) -> None:
    options = {"channels_last": channels_last, "holdout": 100}
    on_cpu = cifar(cifar_dir, **options)
    on_gpu = cifar(cifar_dir, device="cuda", **options)
    for mine, other in (
        (on_cpu.epoch(1), on_gpu.epoch(1)),
        (on_cpu.test(300), on_gpu.test(300)),
        (on_cpu.validation(64), on_gpu.validation(64)),
    ):
        for one, two in zip(mine, other, strict=True):
            assert two.images.device.type == two.labels.device.type == "cuda"
            assert equal(one, Batch(*(part.cpu() for part in two)))
