"""The ordinary way to distil one network: what this project's training is compared with.

    python -m perf.plain_loop FOLDER --teacher resnet32x4 --student resnet8x4 --steps 50

FOLDER holds CIFAR-100's official pickles. A dataset with torchvision's PIL transforms behind a
DataLoader, one student a process, the teacher's forward pass in every step, KD's loss, SGD with
PyTorch's defaults, and the loss and the accuracy read back in every step, as the reference
repositories do it. Networks are this project's own, so that both sides compute the same
function; nothing else is tuned, and nothing is slowed down: torch's default threads, as many
loader processes as CPUs, gradients off in the teacher.
"""

from __future__ import annotations

import argparse
import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmark.base.torchvision_shim import make_torchvision_importable
from benchmark.models import build_model

make_torchvision_importable()
from torchvision import transforms  # noqa: E402

BATCH_SIZE = 64
TEMPERATURE, CE_WEIGHT, KD_WEIGHT = 4.0, 0.1, 0.9


class CifarPickles(Dataset[tuple[Tensor, int]]):
    """CIFAR-100 as torchvision.datasets.CIFAR100 reads it (which refuses a subset by its md5)."""

    def __init__(self, file: Path, transform: Any) -> None:
        with file.open("rb") as opened:
            content = pickle.load(opened, encoding="latin1")
        self.data = content["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        self.targets = content["fine_labels"]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.data[index])), self.targets[index]


def train_loader(folder: Path, workers: int) -> DataLoader[tuple[Tensor, int]]:
    """Return shuffled batches with the usual crops, flips and normalisation."""
    transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
        ]
    )
    dataset = CifarPickles(folder / "train", transform)
    return DataLoader(dataset, BATCH_SIZE, shuffle=True, num_workers=workers)


def kd_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Hinton's loss on logits [B, K]."""
    log_p = F.log_softmax(student / TEMPERATURE, dim=1)
    p = F.softmax(teacher / TEMPERATURE, dim=1)
    return F.kl_div(log_p, p, reduction="batchmean") * TEMPERATURE**2


def plain_steps(
    folder: Path, teacher: nn.Module, student: nn.Module, workers: int
) -> Iterator[tuple[float, float]]:
    """Train ``student`` on CIFAR-100 for as long as asked: what :func:`distilled` yields."""
    yield from distilled(train_loader(folder, workers), teacher, student)


def distilled(
    loader: DataLoader[tuple[Tensor, int]], teacher: nn.Module, student: nn.Module
) -> Iterator[tuple[float, float]]:
    """Train ``student`` for as long as asked; yield (loss, accuracy in percent) of each step."""
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    teacher.eval()
    while True:
        student.train()
        for images, labels in loader:
            with torch.no_grad():
                teacher_logits = teacher(images)
            logits = student(images)
            loss = CE_WEIGHT * F.cross_entropy(logits, labels)
            loss = loss + KD_WEIGHT * kd_loss(logits, teacher_logits)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            accuracy = (logits.argmax(1) == labels).float().mean() * 100
            yield loss.item(), accuracy.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="cifar-100-python")
    parser.add_argument("--teacher", default="resnet32x4")
    parser.add_argument("--student", default="resnet8x4")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    networks = (build_model(options.teacher, 100), build_model(options.student, 100))
    steps = plain_steps(options.folder, *networks, options.workers)
    next(steps)  # starts the loader's processes
    began = time.perf_counter()
    for _ in range(options.steps):
        loss, accuracy = next(steps)
    rate = options.steps * BATCH_SIZE / (time.perf_counter() - began)
    print(f"{rate:.0f} images/s (loss {loss:.2f}, accuracy {accuracy:.0f} %)")


if __name__ == "__main__":
    main()
