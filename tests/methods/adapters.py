"""A pair of fake networks with a method between them, for methods with parts of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.methods import build_method
from benchmark.methods.base import Method, Probe, Setup, Step
from benchmark.models.features import Features
from tests.methods.fakes import CLASSES, SHAPES, FakeModel, fake_features, make_step, total

SMALL = ("resnet56", "resnet20")


class Network(FakeModel):
    """A fake with batch norms as wide as the pre-activations of the network it stands for."""

    def __init__(self, name: str) -> None:
        stages, width = SHAPES[name]
        super().__init__(width)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for channels, _ in stages[1:])

    def batch_norms_before_relu(self) -> tuple[nn.BatchNorm2d, ...]:
        return tuple(norm for norm in self.norms if isinstance(norm, nn.BatchNorm2d))


def features(name: str, batch: int = 2, seed: int = 0) -> Features:
    """Return random features of the network's shapes, the last map included."""
    found = fake_features(name, batch, seed)
    stages, width = SHAPES[name]
    generator = torch.Generator().manual_seed(seed)
    side = stages[-1][1]
    last = found.stages[-1]
    if last.shape[1] != width:
        last = torch.randn(batch, width, side, side, generator=generator).relu()
    return found._replace(last_map=last, pooled=last.mean((2, 3)))


def changed(given: Features, change: Callable[[Tensor], Tensor]) -> Features:
    assert given.last_map is not None
    return Features(
        change(given.logits),
        change(given.pooled),
        tuple(change(stage) for stage in given.stages),
        tuple(change(preact) for preact in given.preacts),
        change(given.last_map),
    )


def leaves(given: Features) -> Features:
    return changed(given, lambda tensor: tensor.detach().clone().requires_grad_())


def tensors(given: Features) -> tuple[Tensor, ...]:
    assert given.last_map is not None
    return (given.logits, given.pooled, *given.stages, *given.preacts, given.last_map)


class World:
    """A pair of networks, a method between them, and steps for it."""

    def __init__(self, method: str, pair: tuple[str, str], batch: int = 2, **options: Any) -> None:
        torch.manual_seed(0)
        self.teacher, self.student = (Network(name) for name in pair)
        setup = Setup(
            Probe(pair[1], self.student, features(pair[1])),
            Probe(pair[0], self.teacher, features(pair[0])),
            CLASSES,
            torch.arange(50) % CLASSES,
            batch,
            epochs=10,
            seed=0,
        )
        if method == "crd":
            options.setdefault("num_negatives", 20)
        self.method: Method[Any] = build_method(method, setup, **options).train()

    def step(self, student: Features, teacher: Features, epoch: int = 1) -> Step:
        heads = {"student_head": self.student.head, "teacher_head": self.teacher.head}
        return make_step(student, teacher)._replace(epoch=epoch, **heads)

    def gradients(self, student: Features, teacher: Features) -> list[Tensor]:
        """Return the loss and its gradients to the student's features and the adapters."""
        student = leaves(student)
        loss = total(self.method.forward(self.step(student, teacher))[0])
        loss.backward()  # type: ignore[no-untyped-call]
        reached = [tensor.grad for tensor in tensors(student) if tensor.grad is not None]
        assert reached, "no gradient to the student"
        for key, parameter in self.method.named_parameters():
            assert parameter.grad is not None, f"no gradient to {key}"
            reached.append(parameter.grad)
        assert all(p.grad is None for p in self.teacher.parameters()), "gradient to the teacher"
        return [loss.detach(), *reached]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
