"""Methods on logits at their edges: extreme logits, tiny batches, autocast, compilation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.methods import dkd
from benchmark.methods.binarykl import binarykl_loss
from benchmark.methods.binaryklnorm import binaryklnorm_loss
from benchmark.methods.dist import dist_loss
from benchmark.methods.earth_mover_kd import earth_mover_loss
from benchmark.methods.kd import kd_loss
from benchmark.methods.label_smoothing import smoothed_cross_entropy
from benchmark.methods.relative_kd import ThesisReading, relative_loss
from benchmark.methods.spherical_kd import spherical_cross_entropy, spherical_loss
from benchmark.methods.two_temperature_kd import two_temperature_loss
from tests.methods.tiny import CLASSES, make_method, make_model, make_step, step_of_logits

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "kd": ("kd", {}),
    "kd, T=1": ("kd", {"temperature": 1.0}),
    "dkd": ("dkd", {"warmup_epochs": 0}),
    "dkd, T=1": ("dkd", {"temperature": 1.0}),
    "binarykl": ("binarykl", {}),
    "binaryklnorm": ("binaryklnorm", {}),
    "dhkd": ("dhkd", {"head": "linear"}),
    "dist": ("dist", {}),
    "dot": ("dot", {}),
    "label_smoothing": ("label_smoothing", {}),
    "vanilla_kd": ("vanilla_kd", {}),
    "spherical_kd": ("spherical_kd", {}),
    "spherical_kd, box": ("spherical_kd", {"norm": "squared", "ce_on": "normalised"}),
    "earth_mover_kd": ("earth_mover_kd", {}),
    "earth_mover_kd, stays": ("earth_mover_kd", {"mass": "stays", "passes": "as_logits"}),
    "two_temperature_kd": ("two_temperature_kd", {}),
    **{f"relative_kd {v}": ("relative_kd", {"version": v}) for v in (1, 2, 3, 4)},
    "relative_kd, box": ("relative_kd", {"version": 1, "signed": True}),
}


def logits(batch: int = 6, scale: float = 3.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(batch, CLASSES, generator=generator)


def one_hot(scale: float, classes: list[int]) -> Tensor:
    return scale * torch.nn.functional.one_hot(torch.tensor(classes), CLASSES).float()


# Students, teachers [B, K] and labels [B].
EXTREMES: dict[str, tuple[Tensor, Tensor, list[int]]] = {
    "a batch of one": (logits(1), logits(1, seed=1), [0]),
    "two identical samples": (logits(1).repeat(2, 1), logits(1, seed=1).repeat(2, 1), [3, 3]),
    "one class alone": (logits(4), logits(4, seed=1), [7, 7, 7, 7]),
    "equal logits": (torch.zeros(2, CLASSES), torch.zeros(2, CLASSES), [0, 1]),
    "student is teacher": (logits(4), logits(4), [0, 1, 2, 3]),
    "noise of 1e4": (logits(4, 1e4), logits(4, 1e4, seed=1), [0, 1, 2, 3]),
    "sure of 1e4, both right": (one_hot(1e4, [0, 1]), one_hot(1e4, [0, 1]), [0, 1]),
    "sure of 1e4, teacher wrong": (one_hot(1e4, [0, 1]), one_hot(1e4, [2, 3]), [0, 1]),
    "sure of 1e4, student wrong": (one_hot(1e4, [2, 3]), one_hot(1e4, [0, 1]), [0, 1]),
    "down by 1e4": (one_hot(-1e4, [0, 1]), one_hot(-1e4, [2, 3]), [0, 1]),
}


def total(loss: Tensor | dict[str, Tensor]) -> Tensor:
    return loss if isinstance(loss, Tensor) else torch.stack(list(loss.values())).sum()


@pytest.mark.parametrize("name", METHODS)
def test_loss_and_gradient_stay_finite(name: str) -> None:
    method_name, options = METHODS[name]
    method = make_method(method_name, make_model(0), make_model(1), **options)
    for case, (student, teacher, labels) in EXTREMES.items():
        student = student.clone().requires_grad_()
        loss = total(method.loss(step_of_logits(student, teacher, torch.tensor(labels))))
        assert loss.isfinite(), f"{case}: loss {loss.item()}"
        assert loss.dtype == torch.float32
        loss.backward()  # type: ignore[no-untyped-call]
        assert student.grad is not None
        assert student.grad.isfinite().all(), f"{case}: gradient"


@pytest.mark.parametrize("name", METHODS)
def test_half_precision_logits_give_the_loss_of_their_float32_values(name: str) -> None:
    method_name, options = METHODS[name]
    method = make_method(method_name, make_model(0), make_model(1), **options)
    labels = torch.arange(6)
    student, teacher = logits().bfloat16(), logits(seed=1).bfloat16()
    if method_name == "dhkd":  # its head runs in bfloat16 too, as the engine would run it
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert total(method.loss(step_of_logits(student, teacher, labels))).isfinite()
        return
    exact = total(method.loss(step_of_logits(student.float(), teacher.float(), labels)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = total(method.loss(step_of_logits(student, teacher, labels)))
    assert torch.equal(found, exact)


@pytest.mark.parametrize("name", METHODS)
def test_gradients_reach_the_student_and_the_own_parts_alone(name: str) -> None:
    method_name, options = METHODS[name]
    student, teacher = make_model(0), make_model(1)
    method = make_method(method_name, student, teacher, **options)
    total(method.loss(make_step(student, teacher))).backward()  # type: ignore[no-untyped-call]
    assert student.body.weight.grad is not None
    assert student.body.weight.grad.abs().max() > 0
    assert all(p.grad is not None for p in method.parameters())
    assert all(p.grad is None for p in teacher.parameters())


def test_dkd_warms_up_by_whole_epochs_from_one() -> None:
    student, teacher = make_model(0), make_model(1)
    method = make_method("dkd", student, teacher)
    full = total(
        make_method("dkd", student, teacher, warmup_epochs=0).loss(make_step(student, teacher))
    )
    for epoch, factor in ((1, 1 / 20), (7, 7 / 20), (20, 1.0), (21, 1.0)):
        found = total(method.loss(make_step(student, teacher, epoch=epoch)))
        torch.testing.assert_close(found, factor * full)


def test_label_smoothing_replaces_the_cross_entropy() -> None:
    student, teacher = make_model(0), make_model(1)
    method = make_method("label_smoothing", student, teacher)
    step = make_step(student, teacher)
    log_probs = step.student.logits.log_softmax(1)
    expected = -0.9 * log_probs[torch.arange(8), step.labels].mean() - 0.1 * log_probs.mean()
    assert method.ce_weight == 0
    torch.testing.assert_close(total(method.loss(step)), expected)


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

FUNCTIONS: dict[str, Loss] = {
    "kd": lambda s, t, y: kd_loss(s, t, 4.0),
    "tckd": lambda s, t, y: dkd.tckd_loss(s, t, y, 4.0),
    "nckd": lambda s, t, y: dkd.nckd_loss(s, t, y, 4.0),
    "binarykl": lambda s, t, y: binarykl_loss(s, t, 2.0),
    "binaryklnorm": lambda s, t, y: binaryklnorm_loss(s, t, 2.0),
    "dist": lambda s, t, y: dist_loss(s, t, 4.0),
    "label_smoothing": lambda s, t, y: smoothed_cross_entropy(s, y, 0.1),
    "spherical": lambda s, t, y: spherical_loss(s, t, 2.0) + spherical_cross_entropy(s, t, y),
    "earth_mover": lambda s, t, y: earth_mover_loss(s, t, y, 2.0),
    "two_temperature": lambda s, t, y: two_temperature_loss(s, t, y, 2.0, 10.0),
    "relative_1": lambda s, t, y: relative_loss(s, t, y, 1, 2.0),
    "relative_3": lambda s, t, y: relative_loss(
        s, t, y, 3, 2.0, reading=ThesisReading("magnitude")
    ),
    "relative_4": lambda s, t, y: relative_loss(s, t, y, 4, 2.0),
}


# torch itself uses what it deprecates when inductor starts.
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_compiles_without_a_graph_break(name: str, backend: str) -> None:
    compiled = torch.compile(FUNCTIONS[name], fullgraph=True, backend=backend)
    teacher, labels = logits(seed=1), torch.arange(6)
    results = []
    for function in (FUNCTIONS[name], compiled):
        student = logits().requires_grad_()
        loss = function(student, teacher, labels)
        (gradient,) = torch.autograd.grad(loss, student)
        results.append((loss.detach(), gradient))
    torch.testing.assert_close(results[0], results[1])
