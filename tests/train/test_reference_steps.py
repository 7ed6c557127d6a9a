"""Three training steps of a run, through the loop's own parts, follow the reference.

The other tests of golden_steps write the optimiser step out; here a Trainee takes it: the
recipe's optimiser and rate, weight decay on every parameter, adapters after the student's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.data.batches import Batch
from benchmark.methods.catalog import method_info
from benchmark.models.features import Features, Model
from benchmark.run.identity import DatasetRef, MethodRef, Run, TeacherRef
from benchmark.table.recipe import named_recipe, override
from benchmark.train.network import Network
from benchmark.train.trainee import Trainee, World
from tests.fill import fill_state, fill_value
from tests.methods.golden import assert_close
from tests.methods.test_logits_steps import LABELS, RTOL, STEPS, expected, filled, images

RECIPE = override(
    named_recipe("crd_240"),
    {"batch_size": 8, "channels_last": False, "threads": 1, "device": "cpu"},
)
WORLD = World((3, 32, 32), 100, LABELS, steps_per_epoch=3)


def make_trainee(teacher: Model, method: str | None, options: Mapping[str, Any]) -> Trainee:
    """Return a run at its first step, with the reference's weights, in float64."""
    uses = ()
    if method is not None:
        info = method_info(method)
        ref = MethodRef(name=method, version=info.version, options=info.resolve(options))
        uses = (ref,)
    run = Run(
        dataset=DatasetRef(name="cifar100", digest="-"),
        model="resnet8x4",
        teacher=TeacherRef(model="resnet32x4", source="train", key="-") if uses else None,
        methods=uses,
        recipe=RECIPE,
        seed=0,
        versions={},
    )
    network = Network("resnet32x4", teacher.float(), RECIPE)
    trainee = Trainee(run, WORLD, network if uses else None)
    fill_state(trainee.student.model)
    # In the reference a second head is the last part of the student's own state dict.
    start = len(trainee.student.model.state_dict())
    with torch.no_grad():
        for k, (key, parameter) in enumerate(trainee.methods.named_parameters(), start):
            value = fill_value(k, key, tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(value).float())
    for module in (trainee.student.model, trainee.methods, teacher):
        module.double()
    return trainee


def sums(tensors: Any, power: int = 1) -> Tensor:
    return torch.stack([tensor.detach().double().pow(power).sum() for tensor in tensors])


@pytest.fixture(scope="module")
def teacher() -> Model:
    return filled("resnet32x4").eval().requires_grad_(False)


@pytest.fixture(scope="module")
def seen(teacher: Model) -> list[Features]:
    """What the teacher says to each of the three batches."""
    with torch.no_grad():
        return [teacher.features(images(number)) for number in range(3)]


def spied(trainee: Trainee, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Return a list that collects the logits of every training step."""
    logits: list[Tensor] = []
    terms = trainee.objective.terms

    def spy(*arguments: Any) -> tuple[dict[str, Tensor], Tensor]:
        found = terms(*arguments)
        logits.append(found[1].detach())
        return found

    monkeypatch.setattr(trainee.objective, "terms", spy)
    return logits


CASES: dict[str, tuple[str | None, dict[str, Any], tuple[str, str | None]]] = {
    # run: method, options, names of its losses (cross-entropy, the method's) in the archive
    "vanilla": (None, {}, ("ce", None)),
    "kd": ("kd", {}, ("loss_ce", "loss_kd")),
    "at": ("at", {}, ("loss_ce", "loss_kd")),
    "dhkd_linear": ("dhkd", {"head": "linear", "gradient_alignment": False}, ("ce", "kd")),
}


@pytest.mark.parametrize("run", CASES)
def test_three_steps(
    run: str, teacher: Model, seen: list[Features], monkeypatch: pytest.MonkeyPatch
) -> None:
    method, options, losses = CASES[run]
    trainee = make_trainee(teacher, method, options)
    logits = spied(trainee, monkeypatch)
    prefix = "head1" if run == "dhkd_linear" else "logits"
    before = dict.fromkeys(("ce", method), 0.0)
    for number in range(3):
        trainee.train_step(Batch(images(number), LABELS, torch.arange(8)), seen[number])
        assert_close(logits[number], expected(run, f"{prefix}_step{number}"), RTOL, "logits")
        for name, key in zip(("ce", method), losses, strict=True):
            if key is not None:
                total = trainee.state()["sums"][name].item()
                value = torch.tensor((total - before[name]) / len(LABELS), dtype=torch.float64)
                assert_close(value, expected(run, key)[number], RTOL, f"{name} in step {number}")
                before[name] = total
    parameters = [*trainee.student.model.parameters(), *trainee.methods.parameters()]
    assert [id(p) for p in trainee.parameters] == [id(p) for p in parameters]
    assert_close(sums(parameters), expected(run, "student_param_sums"), RTOL)
    assert_close(sums(parameters, 2), expected(run, "student_param_sumsq"), RTOL)
    if f"{run}/student_buffer_sums" in STEPS:
        found = sums(trainee.student.model.buffers())
        assert_close(found, expected(run, "student_buffer_sums"), RTOL, "batch norms")
    trainee.eval()
    with torch.no_grad():
        assert_close(trainee.predict(images(9)), expected(run, "eval_logits_after"), RTOL)
