"""The losses of ImageNet's and DeiT's recipes against the reference numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmark.methods._deit_losses import hard_loss, label_loss, soft_loss
from benchmark.methods.dist import dist_loss
from benchmark.methods.kd import kd_loss
from benchmark.methods.nkd import nkd_losses
from benchmark.methods.projector import correlation_distance, logsum_distance, normalised
from benchmark.methods.uskd import non_target_loss, target_loss, weak_loss
from tests.golden_imagenet import archive, close, tensors

GOLDEN_IMAGENET = (
    "losses:in",
    "losses:soft_target_ce",
    "losses:label_smoothing_ce",
    "losses:deit_hard",
    "losses:deit_hard_alpha0.3",
    "losses:deit_soft_tau1",
    "losses:deit_soft_tau3",
    "losses:deit_soft_tau3_alpha0.1",
    "losses:deit_soft_tau3_batchmean",
    "losses:deit_none",
    "losses:timm_token_default",
    "losses:timm_token_hard_half",
    "losses:timm_token_soft_T3_half",
    "losses:timm_logit_default",
    "losses:civt",
    "losses:nkd_gamma1.5",
    "losses:nkd_gamma1",
    "losses:nkd_T2",
    "losses:nkd_mix",
    "losses:funmatch_T1",
    "losses:funmatch_T2",
    "losses:funmatch_T10",
    "losses:funmatch_two_teachers",
    "losses:proj_deit_correlation",
    "losses:proj_deit_logsum",
    "losses:proj_deit_logsum_eps0",
    "losses:proj_deit_correlation_global",
    "losses:proj_deit_correlation_split2",
    "losses:uskd_hard",
    "losses:uskd_hard_split2",
    "losses:dist_global",
    "losses:dist_split2",
)

Inputs = dict[str, Tensor]


@cache
def _given(root: Path) -> Inputs:
    return tensors(root, "losses", "in")


def _ce(logits: Tensor, given: Inputs, targets: str = "y_mix") -> Tensor:
    return label_loss(logits, given[targets], given["label"], 0.0)


def _deit(alpha: float, distance: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Inputs], Tensor]:
    return lambda g: (1 - alpha) * _ce(g["z_cls"], g) + alpha * distance(g["z_dist"], g["z_t"])


def _nkd(gamma: float, temperature: float, mixed: bool = False) -> Callable[[Inputs], Tensor]:
    def loss(g: Inputs) -> Tensor:
        labels = g["y_mix_hard"].argmax(1) if mixed else g["label"]
        target, others = nkd_losses(g["z_cls"], g["z_t"], labels, temperature)
        return target + gamma * others

    return loss


def _kd(temperature: float, *teachers: str) -> Callable[[Inputs], Tensor]:
    return lambda g: sum(  # type: ignore[return-value]
        kd_loss(g["z_cls"], g[teacher], temperature) for teacher in teachers
    )


def _halves(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Inputs], Tensor]:
    """The mean over two processes that each saw half of the batch."""

    def mean(g: Inputs) -> Tensor:
        return (loss(g["z_cls"][:4], g["z_t"][:4]) + loss(g["z_cls"][4:], g["z_t"][4:])) / 2

    return mean


CASES: dict[str, Callable[[Inputs], Tensor]] = {
    "soft_target_ce": lambda g: _ce(g["z_cls"], g),
    "label_smoothing_ce": lambda g: label_loss(g["z_cls"], None, g["label"], 0.1),
    "deit_hard": _deit(0.5, hard_loss),
    "deit_hard_alpha0.3": _deit(0.3, hard_loss),
    "deit_soft_tau1": _deit(0.5, lambda s, t: soft_loss(s, t, 1.0)),
    "deit_soft_tau3": _deit(0.5, lambda s, t: soft_loss(s, t, 3.0)),
    "deit_soft_tau3_alpha0.1": _deit(0.1, lambda s, t: soft_loss(s, t, 3.0)),
    "deit_soft_tau3_batchmean": _deit(0.5, lambda s, t: soft_loss(s, t, 3.0, per_class=False)),
    "deit_none": lambda g: _ce((g["z_cls"] + g["z_dist"]) / 2, g),
    "timm_token_default": lambda g: _ce(g["z_cls"], g) + kd_loss(g["z_dist"], g["z_t"], 1.0),
    "timm_token_hard_half": _deit(0.5, hard_loss),
    "timm_token_soft_T3_half": _deit(0.5, lambda s, t: soft_loss(s, t, 3.0, per_class=False)),
    "timm_logit_default": lambda g: _ce(g["z_cls"], g) + kd_loss(g["z_cls"], g["z_t"], 1.0),
    "civt": lambda g: (
        _ce(g["z_cls"], g)
        + kd_loss(g["z_dist"], g["z_t"], 1.0)
        + kd_loss(g["z_inv"], g["z_t2"], 1.0)
    ),
    "nkd_gamma1.5": _nkd(1.5, 1.0),
    "nkd_gamma1": _nkd(1.0, 1.0),
    "nkd_T2": _nkd(1.5, 2.0),
    "nkd_mix": _nkd(1.0, 1.0, mixed=True),
    "funmatch_T1": _kd(1.0, "z_t"),
    "funmatch_T2": _kd(2.0, "z_t"),
    "funmatch_T10": _kd(10.0, "z_t"),
    "funmatch_two_teachers": _kd(1.0, "z_t", "z_t2"),
    "dist_global": lambda g: dist_loss(g["z_cls"], g["z_t"], 1.0),
    "dist_split2": _halves(lambda s, t: dist_loss(s, t, 1.0)),
}
HEADS = ("z_cls", "z_dist", "z_inv")


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients(case: str, fixtures: Path) -> None:
    given = {name: value.clone() for name, value in _given(fixtures).items()}
    for head in HEADS:
        given[head].requires_grad_()
    loss = CASES[case](given)
    loss.backward()  # type: ignore[no-untyped-call]
    expected = archive(fixtures, "losses")
    rtol = 1e-7 if case.startswith(("funmatch", "dist")) else 1e-10
    close(loss.reshape(()), torch.tensor(expected[f"{case}/loss"]).reshape(()), rtol)
    for head in HEADS:
        name = "z_conv" if case == "civt" and head == "z_dist" else head
        if f"{case}/grad/{name}" in expected:
            gradient = given[head].grad
            assert gradient is not None
            close(gradient, torch.from_numpy(expected[f"{case}/grad/{name}"]), rtol)


def _sides(given: Inputs) -> tuple[Tensor, Tensor]:
    tokens, weight = given["patch_tokens"], given["embed_weight"]
    return tokens.mean(1) @ weight.T + given["embed_bias"], given["teacher_map"].mean((2, 3))


@pytest.mark.parametrize(("case", "parts"), [("global", 1), ("split2", 2)])
def test_the_correlation_of_a_local_batch(case: str, parts: int, fixtures: Path) -> None:
    found = []
    sides = _sides(_given(fixtures))
    for s, t in zip(*(side.chunk(parts) for side in sides), strict=True):
        own = normalised(s, "batch", 1e-30), normalised(t, "batch", 1e-30)
        found.append(correlation_distance(*own, 4.0, 1e-5))
    expected = archive(fixtures, "losses")[f"proj_deit_correlation_{case}/loss"]
    close(torch.stack(found).mean(), torch.tensor(expected).reshape(()), 1e-9)


@pytest.mark.parametrize("case", ["correlation", "logsum", "logsum_eps0"])
def test_the_projectors_deit(case: str, fixtures: Path) -> None:
    given, expected = _given(fixtures), archive(fixtures, "losses")
    s, t = _sides(given)
    eps = 1e-4 if case == "logsum" else 1e-30
    own = normalised(s, "batch", eps), normalised(t, "batch", eps)
    if case == "correlation":
        distance = correlation_distance(*own, 4.0, 1e-5)
    else:
        distance = logsum_distance(*own, 4.0, 0.0)
    parts = {
        "ce": _ce(given["z_cls"], given),
        "distance": distance,
        "kl": kd_loss(given["z_dist"], given["z_t"], 1.0),
    }
    name = f"proj_deit_{case}"
    for part, value in parts.items():
        if f"{name}/{part}" in expected:
            close(value, torch.tensor(expected[f"{name}/{part}"]).reshape(()), 1e-9)
    total = torch.stack(list(parts.values())).sum()
    close(total, torch.tensor(expected[f"{name}/loss"]).reshape(()), 1e-9)


@pytest.mark.parametrize(("case", "parts"), [("uskd_hard", 1), ("uskd_hard_split2", 2)])
def test_uskd_with_plain_labels(case: str, parts: int, fixtures: Path) -> None:
    given, expected = _given(fixtures), archive(fixtures, "losses")
    weak = given["fea_mid"] @ given["uskd_weight"].T + given["uskd_bias"]
    found = []
    for z, w, y in zip(
        *(x.chunk(parts) for x in (given["z_cls"], weak, given["label"])), strict=True
    ):
        total = target_loss(z, y) + 0.1 * non_target_loss(z, w, y) + 0.005 * weak_loss(w, y)
        found.append(total)
    close(torch.stack(found).mean(), torch.tensor(expected[f"{case}/loss"]).reshape(()), 1e-6)
