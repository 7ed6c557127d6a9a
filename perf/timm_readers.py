"""DeiT's training batches from photographs, decoded to mixed: ours beside timm's own loader.

    python -m perf.timm_readers FOLDER [--rounds 7] [--threads 2] [--copies 4]

The JPEG files below FOLDER (any layout), each ``copies`` times so that passes are long. Both
decode, cut a random part to 224 pixels by a bicubic filter, flip, apply RandAugment
(rand-m9-mstd0.5-inc1), normalise, erase (0.25, noise), and mix the batch (mixup 0.8 or CutMix 1.0,
smoothing 0.1). timm's is ``create_loader`` without its prefetcher, which needs a GPU, with as many
workers (processes that stay) as ours has threads, and its ``Mixup``. They take turns; a first pass,
in which ours compiles, is not counted. Nothing is trained.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps

from benchmark.base.torchvision_shim import make_torchvision_importable
from benchmark.data.datasets import dataset_info
from benchmark.data.open import open_batches
from benchmark.data.write import write_dataset
from benchmark.table.recipe import Mixing
from perf.readers import Epoch, linked, measure

make_torchvision_importable()
from timm.data import ImageDataset, Mixup, create_loader  # noqa: E402

CLASSES = 10
_posterize = ImageOps.posterize


def posterize(image: Image.Image, bits: int) -> Image.Image:
    """As Pillow before 13, which does not refuse the 0 bits that timm asks for."""
    return _posterize(image, bits) if bits else Image.new(image.mode, image.size)


def timms(folder: Path, batch_size: int, workers: int) -> Epoch:
    """Return timm's loader of ``folder`` (class folders)."""
    ImageOps.posterize = posterize  # in the workers, too, which are forked
    info = dataset_info("imagenette")
    settings: dict[str, Any] = {
        "auto_augment": "rand-m9-mstd0.5-inc1",
        "re_prob": 0.25,
        "re_mode": "pixel",
        "interpolation": "bicubic",
        "mean": info.mean,
        "std": info.std,
    }
    loader = create_loader(
        ImageDataset(str(folder)),
        input_size=(3, 224, 224),
        batch_size=batch_size,
        is_training=True,
        use_prefetcher=False,
        num_workers=workers,
        persistent_workers=True,
        **settings,
    )
    mixup = Mixup(
        mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5, label_smoothing=0.1, num_classes=CLASSES
    )

    def epoch(_: int) -> int:
        images = 0
        for pixels, labels in loader:
            _, targets = mixup(pixels, labels)
            images += len(targets)
        return images

    return epoch


def ours(data: Path, batch_size: int, threads: int) -> Epoch:
    batches = open_batches(
        "imagenette",
        data,
        reader="ffcv",
        seed=0,
        batch_size=batch_size,
        augmentation="imagenet_timm",
        drop_last=True,
        workers=threads,
        mix=Mixing(mixup=0.8, cutmix=1.0),
        label_smoothing=0.1,
    )
    return lambda epoch: sum(len(batch.labels) for batch in batches.epoch(epoch))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--copies", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = linked(options.folder, folder, options.copies)
        write_dataset("imagenette", folder / "images", folder, allow_altered=True)
        size, threads = options.batch_size, options.threads
        rates = measure(
            {
                "timm's create_loader": timms(folder / "images" / "train", size, threads),
                "ours": ours(folder, size, threads),
            },
            options.rounds,
        )
    print(
        f"{len(files)} files x {options.copies}, {os.cpu_count()} CPUs, load"
        f" {os.getloadavg()[0]:.1f}, torch {torch.__version__}, {threads} workers or threads, batch"
        f" {size}, n = {options.rounds}"
    )
    theirs = next(iter(rates.values()))
    for name, found in rates.items():
        ratio = [a / b for a, b in zip(found, theirs, strict=True)]
        print(
            f"| {name} | {statistics.median(found):,.0f} images/s |"
            f" {statistics.median(ratio):.2f}x ({min(ratio):.2f} to {max(ratio):.2f}) |"
        )


if __name__ == "__main__":
    main()
