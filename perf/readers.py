"""Images per second of the readers, beside an ordinary PIL Dataset and DataLoader.

    python -m perf.readers --data checkpoints/data --dataset cifar100 --threads 2
    python -m perf.readers --photographs FOLDER --threads 2

The first form reads small images with random crops, flips and normalisation; the second one
decodes the JPEG files below FOLDER (any layout) with random resized crops to 224, flips and
normalisation. All readers run in turn in every round, after a first one that is not counted
(ffcv compiles in it); the median over rounds and its ratio to the first reader are printed.
Nothing is trained, so this is the most that a reader can deliver.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmark.base.torchvision_shim import make_torchvision_importable
from benchmark.data.datasets import dataset_info
from benchmark.data.formats import read_layout, read_pixels
from benchmark.data.open import open_batches
from benchmark.data.sidecar import split_path
from benchmark.data.write import write_dataset
from benchmark.train.memory import keep_freed_memory

make_torchvision_importable()
from torchvision import transforms  # noqa: E402

Epoch = Callable[[int], int]  # number of the epoch -> images seen


class PilDataset(Dataset[tuple[torch.Tensor, int]]):
    """What a PyTorch tutorial builds: an image a call, through PIL."""

    def __init__(self, images: Any, labels: Any, transform: Any) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = self.images[index]
        opened = Image.open(image) if isinstance(image, Path) else Image.fromarray(image)
        return self.transform(opened.convert("RGB")), int(self.labels[index])


def ordinary(dataset: PilDataset, batch_size: int, workers: int) -> Epoch:
    loader = DataLoader(dataset, batch_size, shuffle=True, num_workers=workers)
    return lambda _: sum(len(labels) for _, labels in loader)


def ours(
    dataset: str, folder: Path, reader: Any, batch_size: int, augmentation: str, **options: Any
) -> Epoch:
    batches = open_batches(
        dataset,
        folder,
        reader=reader,
        seed=0,
        batch_size=batch_size,
        augmentation=augmentation,
        **options,
    )
    return lambda epoch: sum(len(batch.labels) for batch in batches.epoch(epoch))


def small_images(dataset: str, folder: Path, batch_size: int, threads: int) -> dict[str, Epoch]:
    info = dataset_info(dataset)
    layout = read_layout(split_path(dataset, folder, "train"))
    steps = [
        transforms.RandomCrop(info.image_size, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(info.mean, info.std),
    ]
    plain = PilDataset(read_pixels(layout), layout.labels, transforms.Compose(steps))
    common = (dataset, folder)
    return {
        "PIL and DataLoader, 0 workers": ordinary(plain, batch_size, 0),
        f"PIL and DataLoader, {threads} workers": ordinary(plain, batch_size, threads),
        "resident": ours(*common, "resident", batch_size, "crop_flip"),
        "resident, channels_last": ours(
            *common, "resident", batch_size, "crop_flip", channels_last=True
        ),
        "ffcv, 1 worker": ours(*common, "ffcv", batch_size, "crop_flip", workers=1),
        f"ffcv, {threads} workers": ours(*common, "ffcv", batch_size, "crop_flip", workers=threads),
    }


def linked(source: Path, folder: Path, copies: int = 1) -> list[Path]:
    """Deal the JPEG files below ``source`` to ten classes, since labels do not matter."""
    files = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    for split in ("train", "val"):
        for number, file in enumerate(files * copies):
            target = folder / "images" / split / f"class{number % 10}" / f"{number:06d}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(file.resolve())
    return files


def ordinary_photographs(files: list[Path], side: int = 224) -> PilDataset:
    """Return photographs as PyTorch's example for ImageNet reads them; each is of class 0."""
    info = dataset_info("imagenette")
    steps = [
        transforms.RandomResizedCrop(side),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(info.mean, info.std),
    ]
    return PilDataset(files, [0] * len(files), transforms.Compose(steps))


def photographs(source: Path, folder: Path, batch_size: int, threads: int) -> dict[str, Epoch]:
    plain = ordinary_photographs(linked(source, folder))
    write_dataset("imagenette", folder / "images", folder, allow_altered=True)
    common = ("imagenette", folder, "ffcv", batch_size, "imagenet")
    return {
        "PIL and DataLoader, 0 workers": ordinary(plain, batch_size, 0),
        f"PIL and DataLoader, {threads} workers": ordinary(plain, batch_size, threads),
        "ffcv, 1 worker": ours(*common, workers=1, channels_last=True),
        f"ffcv, {threads} workers": ours(*common, workers=threads, channels_last=True),
    }


def measure(readers: dict[str, Epoch], rounds: int) -> dict[str, list[float]]:
    keep_freed_memory()  # as a training process does, here for all of them
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for round_number in range(rounds + 1):
        for name, epoch in readers.items():
            begin = time.perf_counter()
            images = epoch(round_number)
            if round_number:
                rates[name].append(images / (time.perf_counter() - begin))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("checkpoints/data"))
    parser.add_argument("--dataset", default="cifar100")
    parser.add_argument("--photographs", type=Path, help="measure JPEG files below this folder")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        if options.photographs:
            size = options.batch_size or 64
            readers = photographs(options.photographs, Path(folder), size, options.threads)
        else:
            size = options.batch_size or 512
            readers = small_images(options.dataset, options.data, size, options.threads)
        rates = measure(readers, options.rounds)
    print(
        f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f},"
        f" torch {torch.__version__}, {options.threads} threads, batch {size},"
        f" median of {options.rounds} rounds (lowest to highest)"
    )
    first = next(iter(rates.values()))
    for name, found in rates.items():
        ratio = statistics.median(a / b for a, b in zip(found, first, strict=True))
        spread = f"{min(found):,.0f} to {max(found):,.0f}"
        print(f"| {name} | {statistics.median(found):,.0f} images/s ({spread}) | {ratio:.2f}x |")


if __name__ == "__main__":
    main()
