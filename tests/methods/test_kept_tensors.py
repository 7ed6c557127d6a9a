"""What a run holds in memory between two steps: networks, optimisers and named buffers alone."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from benchmark.conformance.images import digit_images
from benchmark.conformance.lab import Lab, method_ref
from benchmark.conformance.one_step import named
from benchmark.conformance.pairs import Pair
from benchmark.methods.catalog import add_plugin
from benchmark.train.trainee import Trainee

PAIR, STEPS = Pair("resnet14", "resnet8"), 3
SHAPE = (3, 8, 8)
IMAGES, BATCH, CLASSES, WIDTH = 20, 8, 10, 64
Buffers = dict[str, tuple[int, ...]]
# Of every method: its parts, and the buffers beside them with their sizes.
KEPT: dict[str, tuple[set[str], Buffers]] = {
    "afd": ({"peers", "transfer", "discriminators"}, {}),
    "ban": (set(), {}),
    "byot": ({"branches", "adapters"}, {}),
    "class_distance": (
        set(),
        {"centres": (CLASSES, WIDTH), "sums": (CLASSES, WIDTH), "counts": (CLASSES,)},
    ),
    "class_distance_student": (
        {"map"},
        {"head_weight": (CLASSES, WIDTH), "head_bias": (CLASSES,)},
    ),
    "cl_ilr": ({"heads"}, {}),
    "cskd": (set(), {}),
    "ddgsd": (set(), {}),
    "dks": ({"branches"}, {}),
    "dlb": (set(), {"said": (BATCH, CLASSES)}),
    "dml": ({"peers"}, {}),
    "ffl": ({"subnet", "fusion"}, {}),
    "kdcl": ({"peers"}, {"mixture": (2,)}),
    "label_smoothing": (set(), {}),
    "logit_regression": (set(), {}),
    "mhgd": ({"attention", "estimators"}, {}),
    "okddip": ({"peers", "query", "key"}, {}),
    "one": ({"branches", "gate"}, {}),
    "pcl": ({"peers", "fused", "average", "average_peers"}, {"updates": ()}),
    "pskd": (set(), {"stored": (IMAGES, CLASSES)}),
    "rocket": ({"booster"}, {}),
    "snapshot": ({"copy"}, {}),
    "tfkd_reg": (set(), {}),
    "tfkd_self": (set(), {}),
    "uskd": ({"weak"}, {}),
    "zskt": ({"teacher", "generator"}, {}),
}
SMALL = 64  # bytes: sums of an epoch, numbers of an optimiser

LEAKS = '''"""A loss that remembers what it saw."""

from torch import Tensor
from torch.nn import Parameter

from benchmark.methods.base import Method, Step
from benchmark.methods.options import MethodOptions


class Options(MethodOptions):
    """None."""


class Remembers(Method[Options]):
    """Keeps the last step's features."""

    needs_teacher = False

    def loss(self, step: Step) -> Tensor:
        """Return a loss."""
        self.last = step.student.KEPT
        return step.student.logits.square().mean()
'''


def alive() -> dict[int, Tensor]:
    """Return a tensor of every storage that Python holds, by its address.

    Sparse tensors and those without values, which other tests of the process leave, have none.
    """
    gc.collect()
    found = (o for o in gc.get_objects() if type(o) in (Tensor, Parameter))
    dense = (t for t in found if t.layout is torch.strided and t.device.type == "cpu")
    return {tensor.untyped_storage().data_ptr(): tensor for tensor in dense}


def declared(trainee: Trainee) -> Iterable[Tensor | None]:
    """Networks with their gradients and statistics, optimisers, the build's two blank images."""
    for module in (trainee.student.model, trainee.methods):
        for parameter in module.parameters():
            yield from (parameter, parameter.grad)
        yield from module.buffers()
    for optimizer in trainee.players.by_name.values():
        for state in optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, Tensor))
    yield from named(trainee.student.probe(SHAPE)).values()
    if trainee.teacher:
        yield from named(trainee.teacher.probe(SHAPE)).values()
    yield from trainee.rng.state().values()


def left_over(name: str | None, **options: Any) -> tuple[Trainee, list[tuple[int, ...]]]:
    """Take steps of a run; return it, and the shapes of what it holds and does not declare."""
    lab = Lab(PAIR, digit_images(IMAGES, SHAPE[1], BATCH))
    before = alive()  # and it stays, so that no address is given twice
    trainee = lab.start(lab.run([method_ref(name, **options)] if name else []))
    if trainee.epoch < 1:
        lab.step(trainee)
        trainee.end_epoch()
    for _ in range(STEPS):
        lab.step(trainee)
    known = {t.untyped_storage().data_ptr() for t in declared(trainee) if t is not None}
    rest = [t for at, t in alive().items() if at not in before and at not in known]
    return trainee, [tuple(t.shape) for t in rest if t.untyped_storage().nbytes() > SMALL]


def test_a_plain_run_keeps_its_network_and_its_optimiser() -> None:
    assert left_over(None)[1] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", KEPT)
def test_a_method_keeps_what_it_names(name: str) -> None:
    trainee, rest = left_over(name)
    assert rest == []
    parts, buffers = KEPT[name]
    (method,) = trainee.objective.methods
    assert {part for part, _ in method.named_children()} == parts
    assert {n: tuple(b.shape) for n, b in method.named_buffers(recurse=False)} == buffers


@pytest.mark.parametrize(("name", "copies"), [("dml", 1), ("kdcl", 1), ("snapshot", 1)])
def test_as_many_networks_as_it_says(name: str, copies: int) -> None:
    lab = Lab(PAIR, digit_images(IMAGES, SHAPE[1], BATCH))
    trainee = lab.start(lab.run([method_ref(name)]))
    own = sum(p.numel() for p in trainee.student.model.parameters())
    assert sum(p.numel() for p in trainee.methods.parameters()) == copies * own


@pytest.mark.slow
@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("kept", ["pooled", "logits", "stages[1].detach()"])
def test_a_tensor_kept_from_a_step_is_found(kept: str, tmp_path: Path) -> None:
    path = tmp_path / "remembers.py"
    path.write_text(LEAKS.replace("KEPT", kept))
    add_plugin(path)
    assert left_over("remembers")[1], kept
