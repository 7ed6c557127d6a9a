"""DHKD: the reference's alignment and head, the paper's propositions, the options."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.methods import build_method
from benchmark.methods.base import Method, Probe, Setup
from benchmark.methods.binarykl import binarykl_loss
from benchmark.methods.binaryklnorm import binaryklnorm_loss
from benchmark.methods.dhkd import NonlinearHead, aligned_gradients
from benchmark.models import build_model
from tests.methods import golden
from tests.methods.tiny import TinyModel, make_images, make_method, make_model, make_step

GOLDEN = ("dhkd_ga_conflict", "dhkd_ga_noconflict", "dhkd_nonlinear_head")

NAMES = ("body.weight", "body.bias", "fc.weight", "fc.bias", "fc2.weight", "fc2.bias")
LR, DECAY = 0.05, 5e-4  # of the reference's step


def split(flat: Tensor, arrays: dict[str, Tensor]) -> list[Tensor]:
    """Cut a flat vector into the six parameters."""
    shapes = [arrays[f"param/{name}"].shape for name in NAMES]
    parts = flat.split([shape.numel() for shape in shapes])
    return [part.view(shape).clone() for part, shape in zip(parts, shapes, strict=True)]


@pytest.mark.parametrize("name", ["dhkd_ga_conflict", "dhkd_ga_noconflict"])
def test_alignment_is_the_references(name: str) -> None:
    arrays = golden.case(name)
    # The archive holds the parameters after the step of plain SGD with weight decay.
    after = arrays["out/params_after_sgd"]
    before = (after + LR * arrays["out/merged_flat"]) / (1 - LR * DECAY)
    parameters = [nn.Parameter(p) for p in split(before, arrays)]
    body, body_bias, fc, fc_bias, fc2, fc2_bias = parameters
    hidden = F.linear(arrays["in/x"], body, body_bias).tanh()
    ce = F.cross_entropy(F.linear(hidden, fc, fc_bias), arrays["in/target"])
    kd = binaryklnorm_loss(F.linear(hidden, fc2, fc2_bias), arrays["in/z_t"], 2.0)
    assert (ce + kd).item() == pytest.approx(golden.meta()[name]["loss"], rel=1e-9)
    rest = torch.autograd.grad(ce, parameters, retain_graph=True, allow_unused=True)
    own = torch.autograd.grad(kd, parameters, allow_unused=True)
    for found, key in ((rest, "g_ce_flat"), (own, "g_kd_flat")):
        filled = [
            torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)
        ]
        golden.assert_close(torch.cat([g.flatten() for g in filled]), arrays[f"out/{key}"])
    merged = aligned_gradients(rest, own)
    for parameter, gradient, expected in zip(NAMES, merged, split(after, arrays), strict=True):
        assert gradient is not None
        golden.assert_close(gradient, arrays[f"grad/{parameter}"], what=parameter)
        assert expected.shape == gradient.shape

    student, teacher = make_model(0), make_model(1)
    method = make_method("dhkd", student, teacher)
    optimizer = torch.optim.SGD(parameters, lr=LR, momentum=0.9, weight_decay=DECAY)
    method.update(optimizer, parameters, rest, own)
    golden.assert_close(torch.cat([p.flatten() for p in parameters]), after)


def test_nonlinear_head_is_the_references() -> None:
    arrays = golden.case("dhkd_nonlinear_head")
    head = NonlinearHead(64, 200, 0.1, 100).double().eval()
    state = {k.removeprefix("param/"): v for k, v in arrays.items() if k.startswith("param/")}
    head.load_state_dict(state)
    golden.assert_close(head(arrays["in/x"]), arrays["out/eval"])


def test_proposition_1_and_2_gradients_are_pulls_and_pushes() -> None:
    """Gradients of CE + BinaryKL to classifier and features are the paper's sums.

    CE pulls class k's weight towards the features of its own samples by (1 - p_k) and pushes
    it from all others by p_k; BinaryKL pulls where the teacher's sigmoid is above the
    student's, pushes where it is below, times the temperature. Features move likewise among
    the class weights.
    """
    given, tau = golden.common(), 2.0
    teacher, labels = given["z_t"], given["target"]
    features = given["pooled_s"].requires_grad_()
    generator = torch.Generator().manual_seed(0)
    weight = 0.1 * torch.randn(100, 64, generator=generator, dtype=torch.float64)
    weight.requires_grad_()
    logits = features @ weight.T
    loss = F.cross_entropy(logits, labels) + binarykl_loss(logits, teacher, tau)
    by_weight, by_features = torch.autograd.grad(loss, (weight, features))

    batch = len(labels)
    with torch.no_grad():
        probs = logits.softmax(1)
        own_class = F.one_hot(labels, 100).bool()
        excess = tau * ((logits / tau).sigmoid() - (teacher / tau).sigmoid())
        pull = torch.where(own_class, 1 - probs, 0.0) + (-excess).clamp(min=0)  # [B, K]
        push = torch.where(own_class, 0.0, probs) + excess.clamp(min=0)
        for k in (0, int(labels[0]), 99):
            pulled = sum(pull[i, k] * features[i] for i in range(batch))
            pushed = sum(push[i, k] * features[i] for i in range(batch))
            golden.assert_close(by_weight[k], (pushed - pulled) / batch, rtol=1e-10)
        golden.assert_close(by_weight, (push - pull).T @ features / batch, rtol=1e-10)
        for i in range(batch):
            pulled = sum(pull[i, k] * weight[k] for k in range(100))
            pushed = sum(push[i, k] * weight[k] for k in range(100))
            golden.assert_close(by_features[i], (pushed - pulled) / batch, rtol=1e-10)


def updated(method: Method[Any], student: TinyModel, lr: float = 0.1) -> list[Tensor]:
    """Take one step by the method's gradient rule and return the gradients that it left."""
    teacher = make_model(1)
    step = make_step(student, teacher)
    parameters = [*student.parameters(), *method.parameters()]
    ce = F.cross_entropy(step.student.logits, step.labels)
    own = method.loss(step)
    assert isinstance(own, Tensor)
    rest_gradients = torch.autograd.grad(ce, parameters, retain_graph=True, allow_unused=True)
    own_gradients = torch.autograd.grad(own, parameters, allow_unused=True)
    optimizer = torch.optim.SGD(parameters, lr=lr)
    method.update(optimizer, parameters, rest_gradients, own_gradients)
    return [p.grad for p in parameters if p.grad is not None]


def test_clipping_bounds_the_merged_gradient() -> None:
    student = make_model(0)
    free = updated(make_method("dhkd", student, make_model(1), head="linear"), make_model(0))
    norm = torch.cat([g.flatten() for g in free]).norm().item()
    method = make_method("dhkd", student, make_model(1), head="linear", clip_norm=norm / 2)
    clipped = updated(method, make_model(0))
    for ours, theirs in zip(clipped, free, strict=True):
        torch.testing.assert_close(ours, theirs / 2)


def test_two_steps_per_batch_move_twice() -> None:
    start = [p.detach().clone() for p in make_model(0).parameters()]
    moves = []
    for steps in (1, 2):
        student = make_model(0)
        options = {"gradient_alignment": False, "head": "linear", "steps_per_batch": steps}
        updated(make_method("dhkd", student, make_model(1), **options), student)
        moves.append([p.detach() - s for p, s in zip(student.parameters(), start, strict=True)])
    for once, twice in zip(*moves, strict=True):
        torch.testing.assert_close(twice, 2 * once)


def test_gradient_rule_is_used_only_where_it_is_needed() -> None:
    student, teacher = make_model(0), make_model(1)
    plain = {"gradient_alignment": False}
    assert make_method("dhkd", student, teacher).has_gradient_rule
    assert not make_method("dhkd", student, teacher, **plain).has_gradient_rule
    assert make_method("dhkd", student, teacher, **plain, clip_norm=1.0).has_gradient_rule
    assert make_method("dhkd", student, teacher, **plain, steps_per_batch=2).has_gradient_rule


def test_parameters_without_any_gradient_still_decay() -> None:
    unused = nn.Parameter(torch.ones(2))
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    method = make_method("dhkd", make_model(0), make_model(1))
    optimizer = torch.optim.SGD([unused, frozen], lr=0.1, weight_decay=0.5)
    method.update(optimizer, [unused, frozen], [None, None], [None, None])
    assert torch.equal(unused.detach(), torch.full((2,), 0.95))
    assert torch.equal(frozen, torch.ones(2))


def test_alpha_is_zero_from_the_stop_epoch_on() -> None:
    student, teacher = make_model(0), make_model(1)
    method = make_method("dhkd", student, teacher, stop_epoch=5)
    losses = []
    for epoch in (4, 5, 6):
        loss = method.loss(make_step(student, teacher, epoch=epoch))
        assert isinstance(loss, Tensor)
        losses.append(loss.item())
    assert losses[0] > 0
    assert losses[1:] == [0.0, 0.0]


def test_the_loss_of_the_auxiliary_head_is_an_option() -> None:
    student, teacher = make_model(0), make_model(1)
    step = make_step(student, teacher)
    found = {}
    for name, function in (("binarykl", binarykl_loss), ("binaryklnorm", binaryklnorm_loss)):
        method = make_method("dhkd", student, teacher, loss=name, head="linear", alpha=0.5)
        expected = 0.5 * function(method.head(step.student.pooled), step.teacher.logits, 2.0)
        torch.testing.assert_close(method.loss(step), expected)
        found[name] = expected.item()
    assert found["binarykl"] != found["binaryklnorm"]


def test_a_training_batch_of_one_needs_the_linear_head() -> None:
    student, teacher = make_model(0), make_model(1)
    step = make_step(student, teacher, make_images(1))
    with pytest.raises(UserError, match="head: linear"):
        make_method("dhkd", student, teacher).loss(step)
    linear = make_method("dhkd", student, teacher, head="linear").loss(step)
    assert isinstance(linear, Tensor)
    assert linear.isfinite()


@pytest.mark.parametrize("head", ["linear", "nonlinear"])
@pytest.mark.parametrize("name", ["vgg8", "mobilenetv2", "wrn_16_1", "resnet8"])
def test_the_head_is_initialised_as_its_network_is(name: str, head: str) -> None:
    """By the loop of the network that it is a part of in the authors' code."""
    student = build_model(name, 100).eval()
    with torch.no_grad():
        probe = Probe(name, student, student.features(torch.zeros(2, 3, 32, 32)))
    setup = Setup(probe, probe, 100, torch.arange(50), batch_size=8, epochs=1, seed=0)
    method = build_method("dhkd", setup, head=head)
    layers = [module for module in method.modules() if isinstance(module, nn.Linear)]
    assert len(layers) == (1 if head == "linear" else 2)
    for layer in layers:
        if name == "resnet8":
            assert float(layer.bias.detach().abs().max()) > 0
        else:
            assert not layer.bias.detach().any()
        normal = float(layer.weight.detach().std())
        if name in ("vgg8", "mobilenetv2"):
            assert normal == pytest.approx(0.01, rel=0.1)
        else:
            assert normal == pytest.approx((3 * layer.in_features) ** -0.5, rel=0.1)
