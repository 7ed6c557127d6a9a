"""A network of a few hundred parameters, and the setup and steps that methods are given."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmark.methods import build_method
from benchmark.methods.base import Method, Probe, Setup, Step
from benchmark.models.features import Features, Model

CLASSES = 10
WIDTH = 6


class TinyModel(Model):
    """One hidden layer on flattened images [B, 1, 2, 2]."""

    def __init__(self, num_classes: int = CLASSES) -> None:
        super().__init__()
        self.body = nn.Linear(4, WIDTH)
        self.fc = nn.Linear(WIDTH, num_classes)

    def features(self, images: Tensor) -> Features:
        before = self.body(images.flatten(1))
        pooled = before.tanh()
        return Features(self.fc(pooled), pooled, (), ())

    @property
    def head(self) -> nn.Linear:
        return self.fc


def make_model(seed: int, dtype: torch.dtype = torch.float32) -> TinyModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return TinyModel().to(dtype)


def make_images(batch: int = 8, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 1, 2, 2, generator=generator, dtype=torch.float64).to(dtype)


def make_setup(student: Model, teacher: Model) -> Setup:
    images = make_images(2, dtype=next(student.parameters()).dtype)
    with torch.no_grad():
        return Setup(
            student=Probe("student", student, student.features(images)),
            teacher=Probe("teacher", teacher, teacher.features(images)),
            num_classes=CLASSES,
            labels=torch.arange(50) % CLASSES,
            batch_size=8,
            epochs=10,
            seed=0,
        )


def make_method(name: str, student: Model, teacher: Model, **options: Any) -> Method[Any]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        method = build_method(name, make_setup(student, teacher), **options)
    return method.to(next(student.parameters()).dtype)


def make_step(student: Model, teacher: Model, images: Tensor | None = None, epoch: int = 1) -> Step:
    images = make_images(dtype=next(student.parameters()).dtype) if images is None else images
    with torch.no_grad():
        teacher_features = teacher.features(images)
    return Step(
        images=images,
        labels=torch.arange(len(images)) * 3 % CLASSES,
        indices=torch.arange(len(images)),
        student=student.features(images),
        teacher=teacher_features,
        epoch=epoch,
        student_head=student.head,
        teacher_head=teacher.head,
    )


def step_of_logits(student: Tensor, teacher: Tensor, labels: Tensor) -> Step:
    """Return a step that holds nothing but logits [B, K] and labels [B]."""
    head = nn.Linear(WIDTH, CLASSES)
    pooled = student[:, :WIDTH]
    return Step(
        images=torch.zeros(len(labels), 1, 2, 2),
        labels=labels,
        indices=torch.arange(len(labels)),
        student=Features(student, pooled, (), ()),
        teacher=Features(teacher, teacher[:, :WIDTH], (), ()),
        epoch=1,
        student_head=head,
        teacher_head=head,
    )
