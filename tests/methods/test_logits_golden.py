"""The losses on logits equal the reference, in value and gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.methods import dkd, kd
from benchmark.methods.binarykl import binarykl_loss
from benchmark.methods.binaryklnorm import binaryklnorm_loss
from benchmark.methods.dist import dist_loss, dist_losses
from benchmark.methods.vanilla_kd import vanilla_loss
from tests.methods import golden

GOLDEN = (
    "ce",
    "kd_T1",
    "kd_T4",
    "kd_repdistiller_T4",
    "kd_total_cifar",
    "kd_total_imagenet",
    "tckd_T4",
    "nckd_T4",
    "dkd_a1_b8_T4",
    "dkd_a1_b6_T4",
    "dkd_a1_b2_T4",
    "dkd_a1_b0.5_T1",
    "dkd_a1_b2_T1",
    "binarykl_tau1",
    "binarykl_tau2",
    "binarykl_tau4",
    "binarykl_tau2_clamped",
    "binaryklnorm_tau1",
    "binaryklnorm_tau2",
    "binaryklnorm_tau4",
    "binaryklnorm_tau2_clamped",
    "dist_tau1",
    "dist_tau4",
)

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def total_kd(ce_weight: float, weight: float, temperature: float) -> Loss:
    return lambda s, t, y: (
        ce_weight * F.cross_entropy(s, y) + weight * kd.kd_loss(s, t, temperature)
    )


def total_dkd(beta: float, temperature: float) -> Loss:
    return lambda s, t, y: (
        dkd.tckd_loss(s, t, y, temperature) + beta * dkd.nckd_loss(s, t, y, temperature)
    )


LOSSES: dict[str, Loss] = {
    "ce": lambda s, t, y: F.cross_entropy(s, y),
    "kd_T1": lambda s, t, y: kd.kd_loss(s, t, 1.0),
    "kd_T4": lambda s, t, y: kd.kd_loss(s, t, 4.0),
    "kd_repdistiller_T4": lambda s, t, y: vanilla_loss(s, t, 4.0),
    "kd_total_cifar": total_kd(0.1, 0.9, 4.0),
    "kd_total_imagenet": total_kd(0.5, 0.5, 1.0),
    "tckd_T4": lambda s, t, y: dkd.tckd_loss(s, t, y, 4.0),
    "nckd_T4": lambda s, t, y: dkd.nckd_loss(s, t, y, 4.0),
    "dkd_a1_b8_T4": total_dkd(8.0, 4.0),
    "dkd_a1_b6_T4": total_dkd(6.0, 4.0),
    "dkd_a1_b2_T4": total_dkd(2.0, 4.0),
    "dkd_a1_b0.5_T1": total_dkd(0.5, 1.0),
    "dkd_a1_b2_T1": total_dkd(2.0, 1.0),
    "binarykl_tau2_clamped": lambda s, t, y: binarykl_loss(s, t, 2.0),
    "binaryklnorm_tau2_clamped": lambda s, t, y: binaryklnorm_loss(s, t, 2.0),
    **{f"binarykl_tau{T}": lambda s, t, y, T=T: binarykl_loss(s, t, T) for T in (1, 2, 4)},
    **{f"binaryklnorm_tau{T}": lambda s, t, y, T=T: binaryklnorm_loss(s, t, T) for T in (1, 2, 4)},
    **{f"dist_tau{T}": lambda s, t, y, T=T: dist_loss(s, t, T) for T in (1, 4)},
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("name", GOLDEN)
def test_loss_and_gradient(name: str, dtype: torch.dtype) -> None:
    loss = LOSSES[name]
    golden.assert_loss(
        name,
        lambda z_s, z_t, target: loss(z_s, z_t, target),
        also=("z_t", "target"),
        dtype=dtype,
    )


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dist_relations(temperature: float) -> None:
    given, expected = golden.common(), golden.case(f"dist_tau{temperature:.0f}")
    inter, intra = dist_losses(given["z_s"], given["z_t"], temperature)
    golden.assert_close(inter, expected["out/inter"])
    golden.assert_close(intra, expected["out/intra"])
