"""What a step does on a device that is not the host: meta tensors, which hold no values.

They refuse whatever needs a value on the host (``item``, masks as indices), and a copy between
them and the host is seen as on a GPU.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, is_tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmark.base.companion import Companion
from benchmark.conformance.images import digit_images
from benchmark.conformance.lab import Lab, method_ref
from benchmark.conformance.pairs import Pair
from benchmark.data.batches import Batch
from benchmark.data.open import open_batches
from benchmark.methods.catalog import method_infos
from benchmark.run.identity import MethodRef
from benchmark.train import first_stage, players
from benchmark.train.network import Network

BATCH = 20
DEVICE = "meta"
# What falls outside a permutation's range is drawn again, until nothing is left.
NEEDS_VALUES = {"crd"}


class Copies(TorchDispatchMode):
    """Counts what crosses between devices in a block, its backward passes included.

    Single numbers of the host do not count: operations take them as arguments.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self._made = _Made(self.counts)

    def __enter__(self) -> Any:
        self._made.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._made.__exit__(*error)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        explicit = function._schema.name in ("aten::_to_copy", "aten::copy_")
        given = [t for t in tree_leaves((args, kwargs)) if is_tensor(t) and (explicit or t.dim())]
        devices = [t.device.type for t in (*given, *filter(is_tensor, tree_leaves(found)))]
        if len(set(devices)) > 1:
            self.counts[f"{devices[0]} to {devices[-1]}" if explicit else "mixed"] += 1
        return found


class _Made(TorchFunctionMode):
    """Counts tensors of the device that are made from the host's numbers."""

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self._counts = counts

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        makers = (torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor)
        if function in makers and found.device.type == DEVICE:
            self._counts["made"] += 1
        if function in (Tensor.__getitem__, Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            self._counts.update("made" for item in index if isinstance(item, list))
        return found


class OnDevice:
    """Batches whose one epoch lies on the device, as the resident reader's does."""

    def __init__(self, lab: Lab) -> None:
        given = {k: t.to(DEVICE) for k, t in lab.batch()._asdict().items() if t is not None}
        self._batch = Batch(**given)
        self.steps_per_epoch = 1

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        yield self._batch

    def companion(self, which: Companion, epoch: int, step: int) -> Batch:
        """Return a full batch, without values as every other."""
        return self._batch


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab on the device, with what torch has not for this one in its plain form."""

    def plain_sgd(recipe: Any, parameters: Any, undecayed: Any = ()) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=recipe.lr, momentum=recipe.momentum, foreach=False)

    def plain_adam(parameters: Any, lr: float, weight_decay: float) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=lr, foreach=False)

    autocast = torch.autocast

    def autocast_of_others(device: str, **options: Any) -> Any:
        return contextlib.nullcontext() if device == DEVICE else autocast(device, **options)

    for module in (first_stage, players):
        monkeypatch.setattr(module, "build_optimizer", plain_sgd)
    monkeypatch.setattr(players, "build_adam", plain_adam)
    monkeypatch.setattr(torch, "autocast", autocast_of_others)
    # Enough samples of other classes for CRD to draw without replacement, as it does on CIFAR.
    lab = Lab(Pair("resnet14", "resnet8"), digit_images(BATCH, 8, BATCH, num_labels=20_000))
    lab.recipe = lab.recipe.model_copy(update={"device": DEVICE})
    lab.teacher = Network("resnet14", lab.teacher.model, lab.recipe)
    lab.images = OnDevice(lab)  # type: ignore[assignment]
    return lab


def copies_of_a_step(lab: Lab, *rows: list[MethodRef]) -> Counter[str]:
    """Take one step of a pack in the real loop."""
    trainees = [lab.start(lab.run(row)) for row in rows]
    with Copies() as copies:
        assert lab.train(trainees, stop_after=1) == 1
    return copies.counts


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, *sorted(method_infos().keys() - NEEDS_VALUES)])
def test_no_step_needs_the_host(name: str | None, lab: Lab) -> None:
    assert copies_of_a_step(lab, [method_ref(name)] if name else []) == {}


def test_nor_does_a_pack(lab: Lab) -> None:
    assert copies_of_a_step(lab, *([method_ref(name)] for name in ("kd", "at", "rkd", "ofd"))) == {}


@pytest.mark.parametrize("size", [10, 50])
def test_the_resident_reader_asks_the_host_once_an_epoch(digits: Path, size: int) -> None:
    batches = open_batches(
        "digits", digits, seed=0, batch_size=size, augmentation="shift1", device=DEVICE
    )
    with Copies() as copies:
        assert len(list(batches.epoch(1))) == 100 // size
    # The order of the images, whatever the number of batches.
    assert copies.counts == {"cpu to meta": 1}


@pytest.mark.parametrize(
    "crossing",
    [
        lambda x: x + torch.ones(3).to(DEVICE),
        lambda x: x + torch.tensor([1.0, 2.0, 3.0], device=DEVICE),
        lambda x: x + x.new_tensor([1.0, 2.0, 3.0]),
        lambda x: x[[0, 2]],
        lambda x: x[torch.tensor([0, 2])],
    ],
)
def test_every_crossing_is_counted(crossing: Callable[[Tensor], Tensor]) -> None:
    with Copies() as copies:
        crossing(torch.empty(3, device=DEVICE))
    assert copies.counts.total() > 0
    with Copies() as copies:
        torch.empty(3, device=DEVICE) * 2.0 + torch.tensor(1.0)
    assert copies.counts == {}


def test_what_needs_the_host_is_found(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotImplementedError, match="nonzero"):
        copies_of_a_step(lab, [method_ref("crd")])
    monkeypatch.setattr(Network, "layout", lambda _, images: torch.ones(images.shape).to(DEVICE))
    assert copies_of_a_step(lab, []) == {"cpu to meta": 2}
