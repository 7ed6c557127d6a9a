"""Optimiser steps, weight-decay groups and averages against the reference numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmark.base.errors import UserError
from benchmark.models import build_model
from benchmark.table.recipe import Averaging, Recipe, named_recipe, override
from benchmark.train.average import Average
from benchmark.train.optimiser import build_optimizer, undecayed
from tests.golden_imagenet import close, settings, tensors

GOLDEN_IMAGENET = (
    "optimizers:in",
    "optimizers:adamw_deit",
    "optimizers:adamw_projector_clip15",
    "optimizers:adamw_clip1",
    "optimizers:lamb_timm",
    "optimizers:lamb_timm_noclip",
    "optimizers:sgd_nesterov_dist",
    "optimizers:sgd_mdistiller",
    "optimizers:adam_funmatch",
    "optimizers:ema_0.99996",
    "optimizers:ema_0.9",
    "optimizers:emav3_0.9",
    "optimizers:emav3_warmup",
    "optimizers:drop_path",
)

BASE = named_recipe("imagenet_100")
ADAMW: dict[str, Any] = {"optimizer": "adamw", "weight_decay": 0.05, "decay_on": "matrices"}
LAMB: dict[str, Any] = {
    "optimizer": "lamb",
    "lr": 5e-3,
    "weight_decay": 0.02,
    "decay_on": "matrices",
}
DIST: dict[str, Any] = {"nesterov": True, "decay_on": "matrices"}
CASES: dict[str, dict[str, Any]] = {
    "adamw_deit": {**ADAMW, "lr": 1e-3},
    "adamw_projector_clip15": {**ADAMW, "lr": 2.5e-4, "clip_norm": 15.0},
    "adamw_clip1": {**ADAMW, "lr": 1e-3, "clip_norm": 1.0},
    "lamb_timm": {**LAMB, "lamb": {"max_grad_norm": 1.0}},
    "lamb_timm_noclip": {**LAMB, "lamb": {"max_grad_norm": None}},
    "sgd_nesterov_dist": DIST,
    "sgd_mdistiller": {"lr": 0.2},
    # Its decay is not multiplied by the rate of 0.03: the same as 3e-4 / 0.03 that is.
    "adam_funmatch": {**ADAMW, "lr": 0.03, "weight_decay": 3e-4 / 0.03, "clip_norm": 1.0},
}
RATES = {"adam_funmatch": (0.2, 0.6, 1.0)}


@pytest.mark.parametrize("case", CASES)
def test_three_steps_equal_the_reference(case: str, fixtures: Path) -> None:
    recipe = override(BASE, CASES[case])
    given = tensors(fixtures, "optimizers", "in")
    expected = tensors(fixtures, "optimizers", case)
    parameters = {name: nn.Parameter(given[name]) for name in ("w", "b")}
    optimizer = build_optimizer(recipe, parameters.values())
    for step in range(3):
        for name, parameter in parameters.items():
            parameter.grad = given[f"grad{step}/{name}"].clone()
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * RATES.get(case, (1.0, 1.0, 1.0))[step]
        if recipe.clip_norm is not None:
            norm = nn.utils.clip_grad_norm_(list(parameters.values()), recipe.clip_norm)
            if f"norm{step}" in expected:
                close(norm, expected[f"norm{step}"])
        optimizer.step()
        for name, parameter in parameters.items():
            # torch's clipping adds 1e-6 to the norm, that of optax nothing.
            rtol = 1e-8 if case == "adam_funmatch" else 1e-10
            close(parameter, expected[f"after{step}/{name}"], rtol)


@pytest.mark.parametrize(
    "name",
    [
        "deit_tiny_patch16_224",
        "deit_tiny_distilled_patch16_224",
        "resnet50",
        pytest.param("regnety_160", marks=pytest.mark.slow),
    ],
)
def test_the_published_parameters_do_not_decay(name: str, fixtures: Path) -> None:
    recipe = override(BASE, ADAMW)
    expected = settings(fixtures, "weight_decay_groups")[name]
    model = build_model(f"timm:{name}", 1000)
    optimizer = build_optimizer(recipe, model.parameters(), undecayed(recipe, model))
    free, decayed = optimizer.param_groups
    assert (free["weight_decay"], decayed["weight_decay"]) == (0.0, 0.05)
    names = {id(p): n.removeprefix("network.") for n, p in model.named_parameters()}
    assert [names[id(p)] for p in free["params"]] == expected["no_decay"]
    counts = expected["counts"]
    assert len(decayed["params"]) == counts["decay_tensors"]
    assert sum(p.numel() for p in decayed["params"]) == counts["decay_elements"]
    assert sum(p.numel() for p in free["params"]) == counts["no_decay_elements"]


@pytest.mark.parametrize(
    ("ours", "name"),
    [
        ("projector_deit_tiny", "projector_student_tiny"),
        ("projector_deit_small", "projector_student_small"),
        ("civt_tiny", "civt_student_tiny"),
    ],
)
def test_students_with_stems_spare_what_their_codes_spare(
    ours: str, name: str, fixtures: Path
) -> None:
    """The release keeps the projector inside the student; here it is the method's, and decays."""
    recipe = override(BASE, ADAMW)
    with torch.device("meta"):
        model = build_model(ours, 1000)
    optimizer = build_optimizer(recipe, model.parameters(), undecayed(recipe, model))
    free, decayed = optimizer.param_groups
    names = {id(p): n.removeprefix("network.") for n, p in model.named_parameters()}
    expected = settings(fixtures, "weight_decay_groups")[name]
    spared = [n for n in expected["no_decay"] if not n.startswith("distillation_loss.")]
    assert {names[id(p)] for p in free["params"]} == set(spared)
    projector = len(expected["no_decay"]) - len(spared)  # its bias, and beside that its matrix
    assert len(decayed["params"]) == expected["counts"]["decay_tensors"] - projector


def test_deits_own_release_decayed_the_distillation_token() -> None:
    model = build_model("timm:deit_tiny_distilled_patch16_224", 10)
    token = dict(model.named_parameters())["network.dist_token"]
    recipe = override(BASE, ADAMW)
    assert any(p is token for p in undecayed(recipe, model))
    recipe = override(recipe, {"also_decay": ("dist_token",)})
    assert not any(p is token for p in undecayed(recipe, model))
    optimizer = build_optimizer(recipe, model.parameters(), undecayed(recipe, model))
    assert any(p is token for p in optimizer.param_groups[1]["params"])


class _Counted(nn.Module):
    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.register_buffer("running_mean", torch.zeros(3, dtype=weight.dtype))
        self.register_buffer("num_batches", torch.tensor(0))


AVERAGES = {
    "ema_0.99996": Averaging(decay=0.99996),
    "ema_0.9": Averaging(decay=0.9),
    "emav3_0.9": Averaging(decay=0.9),
    "emav3_warmup": Averaging(decay=0.9999, warmup=True),
}


@pytest.mark.parametrize("case", AVERAGES)
def test_averages_equal_timms(case: str, fixtures: Path) -> None:
    weight = tensors(fixtures, "optimizers", "in")["w"]
    expected = tensors(fixtures, "optimizers", case)
    module = _Counted(weight)
    average = Average(AVERAGES[case], module)
    for step in range(1, 11):
        with torch.no_grad():
            module.weight.copy_(weight * (1 + 0.1 * step))
            module.get_buffer("running_mean").add_(0.5)
            module.get_buffer("num_batches").add_(1)
        if "decay_at_step" in expected:
            assert average.decay(step) == pytest.approx(expected["decay_at_step"][step].item())
        average.update(module)
        if step in (1, 2, 10):
            (own,) = average.modules
            close(own.get_parameter("weight"), expected[f"w_after{step}"])
            close(own.get_buffer("running_mean"), expected[f"running_mean_after{step}"])
            # Counters are copied, as by timm's third version; its first one truncates them.
            copied = own.get_buffer("num_batches").item()
            assert copied == step
            if case.startswith("emav3"):
                assert copied == expected[f"num_batches_after{step}"].item()


def test_an_average_goes_on_where_it_was_saved() -> None:
    module = _Counted(torch.ones(4, 3))
    average = Average(Averaging(decay=0.9, warmup=True), module)
    for _ in range(3):
        module.weight.data.add_(1)
        average.update(module)
    other = Average(Averaging(decay=0.9, warmup=True), module)
    other.load(average.state())
    module.weight.data.add_(1)
    average.update(module)
    other.update(module)
    assert torch.equal(
        average.modules[0].get_parameter("weight"), other.modules[0].get_parameter("weight")
    )


def test_stochastic_depth_grows_linearly_and_keeps_the_mean(fixtures: Path) -> None:
    expected = tensors(fixtures, "optimizers", "drop_path")
    model = build_model("timm:deit_tiny_patch16_224", 10, drop_path=0.1)
    blocks: Any = model.network.blocks  # type: ignore[union-attr]
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in blocks]
    close(torch.tensor(rates, dtype=torch.float64), expected["rates_0.1_depth12"])
    layer = blocks[11].drop_path1.train()
    x, keep = expected["x"], expected["keep"]
    torch.manual_seed(0)
    torch.manual_seed(_seed_that_keeps(keep, layer, x))
    close(layer(x), expected["out_p0.1"], 1e-8)  # the rates are float32
    assert torch.equal(layer.eval()(x), x)


def _seed_that_keeps(keep: torch.Tensor, layer: nn.Module, x: torch.Tensor) -> int:
    """Return a seed by which the layer drops the samples that the reference dropped."""
    for seed in range(20_000):
        torch.manual_seed(seed)
        kept = layer(torch.ones_like(x))[:, 0, 0] != 0
        if torch.equal(kept, keep.bool()):
            return seed
    raise AssertionError("no such seed")


def test_a_network_without_stochastic_depth_says_so() -> None:
    with pytest.raises(UserError, match=r"resnet20.*no stochastic depth"):
        build_model("resnet20", 10, drop_path=0.1)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"optimizer": "lamb"}, "lamb.max_grad_norm"),
        ({"optimizer": "lamb", "lamb": {"max_grad_norm": 1.0}, "clip_norm": 1.0}, "both clip"),
        ({"mix": {"mixup": 0.8}, "batch_size": 255}, "must be even"),
        ({"mix": {"mixup": 0.8}}, "drop_last"),
        ({"mix": {}}, "neither mixup nor cutmix"),
        ({"schedule": {"kind": "cosine", "warmup_epochs": 1, "warmup_steps": 1}}, "both given"),
        ({"schedule": {"kind": "cosine", "warmup_steps": 1}}, "per iteration"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
    ],
)
def test_recipes_that_contradict_themselves_are_refused(
    fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        override(BASE, fields)


def test_the_images_of_a_transformer_may_have_another_size() -> None:
    model = build_model("timm:deit_tiny_patch16_224", 10, image_size=32)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_defaults_are_what_they_were() -> None:
    recipe = Recipe.model_validate(BASE.model_dump())
    (group,) = build_optimizer(recipe, [nn.Parameter(torch.ones(3))]).param_groups
    assert group["weight_decay"] == 1e-4
