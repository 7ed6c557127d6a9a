"""What a step costs, in counts that do not wobble.

Passes, conversions, operations that wait for the device, allocations; copies to and from the
host are counted in test_device.py.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, is_tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmark.conformance.images import FewImages, digit_images
from benchmark.conformance.lab import Lab, method_ref
from benchmark.conformance.pairs import Pair
from benchmark.data.batches import Batch
from benchmark.methods.catalog import method_infos
from benchmark.table.recipe import ModelSettings
from benchmark.train.memory import peak_memory_mb
from benchmark.train.network import Network
from benchmark.train.trainee import Trainee

IMAGES, BATCH = 40, 20
ROWS = ("kd", "rkd", "fitnet")


class Operations(TorchDispatchMode):
    """Counts the operations of a block by name, those of its backward passes included."""

    # Each of these makes the host wait for the device.
    WAITING = (
        *("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal"),
        *("aten::_unique2", "aten::unique_dim", "aten::unique_consecutive"),
        *("aten::_linalg_svd", "aten::_linalg_eigh", "aten::linalg_eig"),
        *("aten::_linalg_check_errors", "aten::linalg_inv_ex", "aten::linalg_cholesky_ex"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.conversions = 0
        self.lifted: Counter[int] = Counter()  # bfloat16 to float32, by dimensions
        self.allocated: list[int] = []  # bytes of every tensor with memory of its own

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function._schema.name
        self.counts[name] += 1
        found = function(*args, **(kwargs or {}))
        given = {_storage(tensor) for tensor in tree_leaves((args, kwargs)) if is_tensor(tensor)}
        for tensor in filter(is_tensor, tree_leaves(found)):
            if _storage(tensor) not in given:
                self.allocated.append(tensor.untyped_storage().nbytes())
        if name == "aten::_to_copy" and args[0].dtype == torch.bfloat16:
            self.lifted[args[0].dim()] += found.dtype == torch.float32
        if name == "aten::clone" and args[0].dim() == 4 and args[0].shape[1] == 3:
            self.conversions += args[0].stride() != found.stride()
        indexed = name in ("aten::index", "aten::index_put_", "aten::index_put")
        if indexed and any(i is not None and i.dtype == torch.bool for i in args[1]):
            self.counts["aten::nonzero"] += 1  # what a mask as an index comes to
        return found

    @property
    def waits(self) -> dict[str, int]:
        return {name: self.counts[name] for name in self.WAITING if self.counts[name]}


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def make_lab(teacher: str = "wrn_16_2", images: FewImages | None = None) -> Lab:
    return Lab(Pair(teacher, "resnet8"), images or digit_images(IMAGES, 8, BATCH))


def seen_by(module: nn.Module) -> list[int]:
    """Return a list that collects the batch size of every pass through a module."""
    sizes: list[int] = []
    module.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    return sizes


@pytest.mark.parametrize("rows", [ROWS[:1], ROWS])
def test_a_pack_passes_data_and_teacher_once(
    rows: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_lab()
    trainees = [lab.start(lab.run([method_ref(name)])) for name in rows]
    taught = seen_by(lab.teacher.model.head)
    students = [seen_by(trainee.student.model.head) for trainee in trainees]
    steps: Counter[int] = Counter()
    for trainee in trainees:
        trainee.optimizer.register_step_post_hook(lambda o, *_: steps.update([id(o)]))
    asked: Counter[str] = Counter()
    for name in ("epoch", "test"):
        monkeypatch.setattr(lab.images, name, counting(asked, name, getattr(lab.images, name)))
    lab.train(trainees)
    epochs, tested = lab.recipe.epochs, 4
    assert sum(taught) == epochs * IMAGES
    assert asked == {"epoch": epochs, "test": epochs}
    assert list(steps.values()) == [epochs * IMAGES // BATCH] * len(rows)
    assert [sum(sizes) for sizes in students] == [epochs * (IMAGES + tested)] * len(rows)


def counting(asked: Counter[str], name: str, function: Any) -> Any:
    def counted(*arguments: Any) -> Iterator[Batch]:
        asked[name] += 1
        found: Iterator[Batch] = function(*arguments)
        return found

    return counted


@pytest.mark.parametrize(("own", "conversions"), [((True, True, True), 0), ((False, False), 1)])
def test_images_are_laid_out_once_a_pack(own: tuple[bool, ...], conversions: int) -> None:
    lab = make_lab()
    lab.recipe = lab.recipe.model_copy(update={"channels_last": True})
    settings = [{"resnet8": ModelSettings(channels_last=flag)} for flag in own]
    recipes = [lab.recipe.model_copy(update={"per_model": own}) for own in settings]
    runs = [lab.run().model_copy(update={"recipe": recipe}) for recipe in recipes]
    trainees = [lab.start(run) for run in runs]
    lab.images.images = lab.images.images.to(memory_format=torch.channels_last)
    with Operations() as operations:
        lab.train(trainees, stop_after=1)
    assert operations.conversions == conversions


@pytest.mark.parametrize(
    ("rows", "maps"), [(("kd", "dkd"), 0), (("kd", "at", "sp"), 4), (("kd", "catkd"), 1)]
)
def test_only_maps_that_are_read_are_lifted_and_once(rows: Sequence[str], maps: int) -> None:
    lab = make_lab("resnet14")
    settings = {"resnet8": ModelSettings(precision="fp32")}
    update = {"precision": "bf16", "per_model": settings}
    lab.recipe = lab.recipe.model_copy(update=update)
    lab.teacher = Network("resnet14", lab.teacher.model, lab.recipe)
    trainees = [lab.start(lab.run([method_ref(name)])) for name in rows]
    with Operations() as operations:
        lab.train(trainees, stop_after=1)
    assert operations.lifted == Counter({4: maps, 2: 1}) - Counter()  # and the logits, always


@pytest.mark.parametrize("name", [None, *method_infos()])
def test_no_step_waits_for_the_device(name: str | None) -> None:
    # Enough samples of other classes for CRD to draw without replacement, as it does on CIFAR.
    images = digit_images(BATCH, 8, BATCH, num_labels=20_000)
    lab = make_lab("resnet14", images)
    trainee = lab.start(lab.run([method_ref(name)] if name else []))
    batch = lab.batch()
    teacher = lab.taught(batch)
    lab.step(trainee, teacher)
    trainee.device = "elsewhere"  # on the CPU alone the losses are looked at after every step
    batch, further = lab.seen(trainee)
    given = batch if trainee.uses_images else None
    with Operations() as operations:
        trainee.train_step(given, teacher, further)
    # What falls outside a permutation's range is drawn again, until nothing is left.
    # A decomposition tells the host whether it converged.
    decomposed = {"aten::_linalg_eigh"}
    known = {"crd": {"aten::nonzero"}, "kdsvd": decomposed, "mhgd": decomposed}
    assert set(operations.waits) == known.get(name or "", set())


def test_kd_allocates_a_few_logits_beside_a_plain_step() -> None:
    lab = make_lab()
    plain, taught = lab.start(lab.run()), lab.start(lab.run([method_ref("kd")]))
    batch = lab.batch()
    features = lab.taught(batch)
    counts = []
    for trainee in (plain, taught):
        trainee.train_step(batch, features)
        with Operations() as operations:
            trainee.train_step(batch, features)
        counts.append(operations.allocated)
    logits = features.logits.untyped_storage().nbytes()
    assert len(counts[1]) - len(counts[0]) <= 30
    assert sum(counts[1]) - sum(counts[0]) <= 20 * logits


def test_the_loop_adds_few_operations_to_a_plain_step() -> None:
    lab = make_lab()
    trainee = lab.start(lab.run())
    batch = lab.batch()
    trainee.train_step(batch, None)
    with Operations() as plain:
        plain_step(trainee, batch)
    with Operations() as ours:
        trainee.train_step(batch, None)
    added = ours.counts - plain.counts
    # The weight of the cross-entropy; sums of the loss, of correct answers and of images; on the
    # CPU a look at each of the three.
    assert added["aten::_local_scalar_dense"] == 3
    assert added.total() <= 17, added
    assert len(ours.allocated) - len(plain.allocated) <= 17
    assert sum(ours.allocated) - sum(plain.allocated) <= 1024, "bytes"


def plain_step(trainee: Trainee, batch: Batch) -> Tensor:
    logits = trainee.student.model.features(batch.images).logits
    loss = F.cross_entropy(logits, batch.labels)
    trainee.optimizer.zero_grad()
    torch.autograd.backward(loss)
    trainee.optimizer.step()
    return loss


def test_the_peak_of_memory_is_this_processes_own() -> None:
    code = "from benchmark.train.memory import peak_memory_mb; print(peak_memory_mb())"
    ballast = bytearray(600 * 2**20)  # getrusage would hand its size on to the child
    ballast[:: 2**12] = bytes(len(ballast) // 2**12)
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert peak_memory_mb() > 600
    assert float(child.stdout) < 300
