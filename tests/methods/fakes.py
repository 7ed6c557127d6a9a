"""Features of the published networks' shapes, without the networks: what feature methods see."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmark.methods import build_method
from benchmark.methods.base import Method, Probe, Setup, Step
from benchmark.models.features import Features, Model

CLASSES = 10

# Per network: (channels, side) of the stem and of every stage, and the pooled width.
SHAPES: dict[str, tuple[tuple[tuple[int, int], ...], int]] = {
    "resnet20": (((16, 32), (16, 32), (32, 16), (64, 8)), 64),
    "resnet8x4": (((32, 32), (64, 32), (128, 16), (256, 8)), 256),
    "wrn_40_1": (((16, 32), (16, 32), (32, 16), (64, 8)), 64),
    "wrn_40_2": (((16, 32), (32, 32), (64, 16), (128, 8)), 128),
    "vgg8": (((64, 32), (128, 16), (256, 8), (512, 4), (512, 4)), 512),
    "resnet50": (((64, 32), (256, 32), (512, 16), (1024, 8), (2048, 4)), 2048),
    "mobilenetv2": (((16, 16), (12, 16), (16, 8), (48, 4), (160, 2)), 1280),
    "shufflenetv1": (((24, 32), (240, 16), (480, 8), (960, 4)), 960),
    "shufflenetv2": (((24, 32), (116, 16), (232, 8), (464, 4)), 1024),
}
_SAME = {
    "resnet56": "resnet20",
    "resnet32": "resnet20",
    "resnet110": "resnet20",
    "resnet32x4": "resnet8x4",
    "wrn_16_2": "wrn_40_2",
    "vgg13": "vgg8",
}
SHAPES |= {name: SHAPES[other] for name, other in _SAME.items()}

# The columns of the CIFAR-100 tables, and CRD's own last one.
PAIRS = (
    ("resnet56", "resnet20"),
    ("resnet110", "resnet32"),
    ("resnet32x4", "resnet8x4"),
    ("wrn_40_2", "wrn_16_2"),
    ("wrn_40_2", "wrn_40_1"),
    ("vgg13", "vgg8"),
    ("resnet32x4", "shufflenetv1"),
    ("wrn_40_2", "shufflenetv1"),
    ("vgg13", "mobilenetv2"),
    ("resnet50", "mobilenetv2"),
    ("resnet32x4", "shufflenetv2"),
    ("resnet50", "vgg8"),
)


class FakeModel(Model):
    """A head and one body parameter; its features are made elsewhere."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Parameter(torch.zeros(1))
        self.fc = nn.Linear(width, CLASSES)

    @property
    def head(self) -> nn.Linear:
        return self.fc


def fake_features(name: str, batch: int = 2, seed: int = 0) -> Features:
    """Return random features of the network's shapes; stages are rectified pre-activations."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator)

    stages, width = SHAPES[name]
    preacts = tuple(noise(channels, side, side) for channels, side in stages)
    return Features(
        logits=noise(CLASSES),
        pooled=noise(width).relu(),
        stages=tuple(map_.relu() for map_ in preacts),
        preacts=preacts,
    )


def map_features(features: Features, change: Any) -> Features:
    """Return features with ``change`` applied to every tensor."""
    return Features(
        change(features.logits),
        change(features.pooled),
        tuple(change(map_) for map_ in features.stages),
        tuple(change(map_) for map_ in features.preacts),
    )


def make_setup(teacher: str, student: str) -> Setup:
    def probe(name: str) -> Probe:
        return Probe(name, FakeModel(SHAPES[name][1]), fake_features(name))

    labels = torch.arange(50) % CLASSES
    return Setup(probe(student), probe(teacher), CLASSES, labels, batch_size=8, epochs=10, seed=0)


def make_method(name: str, teacher: str, student: str, **options: Any) -> Method[Any]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return build_method(name, make_setup(teacher, student), **options)


def make_step(student: Features, teacher: Features) -> Step:
    batch = len(student.logits)
    head = nn.Linear(1, 1)
    return Step(
        images=torch.zeros(batch, 3, 2, 2),
        labels=torch.arange(batch) % CLASSES,
        indices=torch.arange(batch),
        student=student,
        teacher=teacher,
        epoch=1,
        student_head=head,
        teacher_head=head,
    )


def leaves(features: Features) -> Features:
    """Return copies that collect gradients."""
    return map_features(features, lambda tensor: tensor.detach().clone().requires_grad_())


def tensors(features: Features) -> tuple[Tensor, ...]:
    return (features.logits, features.pooled, *features.stages, *features.preacts)


def total(loss: Tensor | dict[str, Tensor]) -> Tensor:
    return loss if isinstance(loss, Tensor) else torch.stack(list(loss.values())).sum()
