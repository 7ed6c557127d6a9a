"""Losses of networks that teach each other equal the reference, in value and gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.methods import _afd_losses as afd
from benchmark.methods import _branch_losses as branches
from benchmark.methods import _kdcl_targets as kdcl
from benchmark.methods._dml_losses import mutual_loss
from benchmark.methods._peers import divergence, divergence_from, ramp
from benchmark.methods._self_losses import hint_loss
from benchmark.methods.logit_regression import half_squared_loss
from tests.fill import fill_value
from tests.methods import golden_online as golden
from tests.methods.golden import assert_close

GOLDEN_ONLINE = (
    "dml_2",
    "dml_2_undetached",
    "dml_2_T3",
    "dml_2_symmetric",
    "dml_3_pairwise",
    "dml_3_sum",
    "dml_3_ensemble",
    "dml_3_logits3",
    "dml_steps_simultaneous",
    "dml_steps_alternating",
    "kdcl_naive_2",
    "kdcl_naive_3",
    "kdcl_linear_sample_2",
    "kdcl_linear_sample_3",
    "kdcl_linear_batch_2",
    "kdcl_linear_batch_3",
    "kdcl_minlogit_2",
    "kdcl_minlogit_3",
    "kdcl_general_2",
    "kdcl_general_3",
    "kdcl_general_logits_2",
    "kdcl_general_logits_3",
    "kdcl_general_negative",
    "kdcl_public_mean",
    "ramp",
    "okddip_code",
    "okddip_code_epoch20",
    "okddip_code_detached",
    "okddip_thesis",
    "one",
    "cl_ilr",
    "cl_no_rescale",
    "ffl",
    "pcl",
    "afd_2_generator",
    "afd_2_discriminator",
    "afd_2_logits",
    "afd_3_generator",
    "afd_3_discriminator",
    "afd_3_logits",
    "rocket_code",
    "rocket_no_block",
    "rocket_thesis",
)


def logits_of(given: dict[str, Tensor], count: int) -> list[Tensor]:
    return [given[f"z{i}"] for i in range(1, count + 1)]


def labels_loss(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    return torch.stack([F.cross_entropy(z, labels) for z in logits]).sum()


DML: dict[str, tuple[int, Callable[[list[Tensor], int], Tensor]]] = {
    "dml_2": (2, lambda z, i: mutual_loss(z, i)),
    "dml_2_undetached": (2, lambda z, i: mutual_loss(z, i, detach=False)),
    "dml_2_T3": (2, lambda z, i: mutual_loss(z, i, 3.0)),
    "dml_3_pairwise": (3, lambda z, i: mutual_loss(z, i)),
    "dml_3_sum": (3, lambda z, i: mutual_loss(z, i, total=True)),
    "dml_3_ensemble": (3, lambda z, i: mutual_loss(z, i, target="ensemble")),
    "dml_3_logits3": (
        3,
        lambda z, i: mutual_loss(z, i, 3.0, "logits", detach=False, epsilon=1e-7),
    ),
}


@pytest.mark.parametrize("name", DML)
def test_mutual_learning(name: str) -> None:
    count, term = DML[name]
    given = golden.leaves(name)
    logits = logits_of(given, count)
    own = [F.cross_entropy(z, given["target"]) + term(logits, i) for i, z in enumerate(logits)]
    arrays = golden.case(name)
    for i, loss in enumerate(own, start=1):
        if f"out/loss_{i}" in arrays:
            assert_close(loss, arrays[f"out/loss_{i}"], what=f"{name} network {i}")
    golden.assert_case(name, torch.stack(own).sum(), given)


def test_symmetric_mutual_learning() -> None:
    given = golden.leaves("dml_2_symmetric")
    logits = logits_of(given, 2)
    term = mutual_loss(logits, 0, target="symmetric")
    golden.assert_case("dml_2_symmetric", F.cross_entropy(logits[0], given["target"]) + term, given)


@pytest.mark.parametrize("alternating", [False, True])
def test_steps_of_mutual_learning(alternating: bool) -> None:
    """Gradients of both losses at one point, or a network moved before the other looks at it."""
    name = "dml_steps_alternating" if alternating else "dml_steps_simultaneous"
    arrays, labels = golden.case(name), golden.case("common")["target"]
    networks = [nn.Linear(6, 10).double() for _ in range(2)]
    for start, network in zip((0, 10), networks, strict=True):
        for k, (key, p) in enumerate(network.named_parameters(), start=start):
            p.data = torch.from_numpy(fill_value(k, key, tuple(p.shape)))
    optimizers = [
        torch.optim.SGD(n.parameters(), 0.5, 0.9, weight_decay=5e-4, nesterov=True)
        for n in networks
    ]
    for s in range(3):
        x = arrays[f"in/x{s}"]
        seen: list[Tensor] = []
        if alternating:
            for i, optimizer in enumerate(optimizers):
                logits = [n(x) for n in networks]
                loss = F.cross_entropy(logits[i], labels) + mutual_loss(logits, i)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                seen.append(loss.detach())
        else:
            logits = [n(x) for n in networks]
            losses = [
                F.cross_entropy(z, labels) + mutual_loss(logits, i) for i, z in enumerate(logits)
            ]
            for optimizer in optimizers:
                optimizer.zero_grad()
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
            for optimizer in optimizers:
                optimizer.step()
            seen = [loss.detach() for loss in losses]
        assert_close(torch.stack(seen), arrays["out/losses"][s])
    for i, network in enumerate(networks, start=1):
        assert_close(network.weight, arrays[f"out/w{i}"])
        assert_close(network.bias, arrays[f"out/b{i}"])


def assert_kdcl(name: str, given: dict[str, Tensor], probs: Tensor, count: int) -> None:
    arrays = golden.case(name)
    assert_close(probs, arrays["out/target_probs"], 1e-8, name)
    logits = logits_of(given, count)
    parts = [divergence_from(z, probs.detach(), 2.0) for z in logits]
    loss = labels_loss(logits, given["target"]) + torch.stack(parts).sum()
    golden.assert_case(name, loss, given)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("kind", ["naive", "minlogit", "linear_sample", "linear_batch"])
def test_kdcl(kind: str, count: int) -> None:
    name = f"kdcl_{kind}_{count}"
    given, arrays = golden.leaves(name), golden.case(name)
    stacked = torch.stack(logits_of(given, count)).detach()
    if kind == "naive":
        chosen = kdcl.naive_choice(stacked, given["target"])
        assert torch.equal(chosen, arrays["out/picked"])
        target = kdcl.naive_target(stacked, given["target"])
    elif kind == "minlogit":
        target = kdcl.min_logit_target(stacked, given["target"])
        assert_close(target, arrays["out/z_t"])
        assert not target.gather(1, given["target"].unsqueeze(1)).any()
    else:
        per_sample = kind == "linear_sample"
        weights = kdcl.linear_weights(stacked, given["target"], per_sample=per_sample)
        expected = arrays["out/alpha"]
        assert_close(weights if per_sample else weights[0], expected, 1e-8)
        target = torch.einsum("bm,mbk->bk", weights.expand(8, -1), stacked)
    assert_kdcl(name, given, F.softmax(target / 2, 1), count)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("form", ["general", "general_logits"])
def test_kdcl_general(form: str, count: int) -> None:
    name = f"kdcl_{form}_{count}"
    given = golden.leaves(name)
    held = golden.case(f"kdcl_general_{count}")
    correlation = kdcl.error_correlation(
        [held[f"in/val_z{i}"] for i in range(1, count + 1)], held["in/val_target"]
    )
    assert_close(correlation, held["out/C"])
    weights = kdcl.general_weights(correlation)
    assert_close(weights, held["out/omega"])
    stacked = torch.stack(logits_of(given, count)).detach()
    mixed = torch.einsum("m,mbk->bk", weights, stacked)
    probs = F.softmax(mixed / 2, 1)
    if form == "general":
        probs = torch.einsum("m,mbk->bk", weights, F.softmax(stacked / 2, 2))
    assert_kdcl(name, given, probs, count)


def test_kdcl_weights_stay_on_the_simplex() -> None:
    """Where the closed form is negative the minimum is a vertex."""
    arrays = golden.case("kdcl_general_negative")
    logits = [arrays["in/val_z1"], arrays["in/val_z2"]]
    correlation = kdcl.error_correlation(logits, arrays["in/val_target"])
    assert_close(correlation, arrays["out/C"])
    inverse = torch.linalg.inv(correlation)
    assert_close(inverse.sum(1) / inverse.sum(), arrays["out/omega"], 1e-8)
    assert_close(kdcl.general_weights(correlation), arrays["out/omega_simplex"])


def test_the_public_kdcl() -> None:
    given = golden.leaves("kdcl_public_mean")
    logits = logits_of(given, 2)
    target = torch.stack(logits).mean(0).detach()
    parts = [divergence(z, target, 4.0) for z in logits]
    loss = 0.5 * labels_loss(logits, given["target"]) + 0.5 * torch.stack(parts).sum()
    golden.assert_case("kdcl_public_mean", loss, given)


def test_ramp() -> None:
    arrays = golden.case("ramp")
    ours = torch.tensor([ramp(int(e) + 1) for e in arrays["in/epoch0"]], dtype=torch.float64)
    assert_close(ours, arrays["out/weight"])


@pytest.mark.parametrize(
    ("name", "epoch", "options"),
    [
        ("okddip_code", 81, {}),
        ("okddip_code_epoch20", 21, {}),
        ("okddip_code_detached", 81, {"detach": True}),
        ("okddip_thesis", 81, {"mix_probabilities": True}),
    ],
)
def test_okddip(name: str, epoch: int, options: dict[str, bool]) -> None:
    given = golden.leaves(name) | {
        k: v.requires_grad_() for k, v in golden.inputs("okddip_code").items() if k[0] in "hW"
    }
    logits = logits_of(given, 4)
    pooled = [given[f"h{i}"] for i in (1, 2, 3)]
    term = branches.okddip_loss(
        logits[3], logits[:3], pooled, given["W_L"], given["W_E"], **options
    )
    loss = labels_loss(logits, given["target"]) + ramp(epoch) * term
    golden.assert_case(name, loss, given)


def test_okddip_attention() -> None:
    given = golden.inputs("okddip_code")
    pooled = torch.stack([given[f"h{i}"] for i in (1, 2, 3)], 1)
    alpha = branches.attention(pooled, given["W_L"], given["W_E"])
    assert_close(alpha, golden.case("okddip_code")["out/attention"])


def test_one() -> None:
    given, arrays = golden.leaves("one"), golden.case("one")
    gate = branches.Gate(32, 3).double()
    golden.fill("one", gate, "gate")
    logits = logits_of(given, 3)
    weights = gate(given["trunk"])
    assert_close(weights, arrays["out/gate"])
    ensemble = branches.gated_logits(logits, weights)
    loss = labels_loss([*logits, ensemble], given["target"])
    loss = loss + branches.ensemble_loss(logits, ensemble)
    golden.assert_case("one", loss, given)
    golden.assert_parameters("one", gate, "gate")


@pytest.mark.parametrize("name", ["cl_ilr", "cl_no_rescale"])
def test_cl_ilr(name: str) -> None:
    trunk = golden.case("cl_ilr")["in/trunk"].requires_grad_()
    heads = nn.ModuleList(nn.Linear(32, 10) for _ in range(3)).double()
    golden.fill(name, heads, "heads")
    seen = branches.rescaled(trunk, 1 / 3) if name == "cl_ilr" else trunk
    logits = [head(seen) for head in heads]
    labels = golden.case("common")["target"]
    loss = labels_loss(logits, labels) + branches.collaborative_loss(logits)
    golden.assert_case(name, loss, {"trunk": trunk})
    golden.assert_parameters(name, heads, "heads")


def test_ffl() -> None:
    given = golden.leaves("ffl")
    logits = logits_of(given, 3)
    loss = labels_loss(logits, given["target"])
    golden.assert_case("ffl", loss + branches.fusion_loss(logits[:2], logits[2]), given)


def test_pcl() -> None:
    given, arrays = golden.leaves("pcl"), golden.case("pcl")
    logits = logits_of(given, 4)
    averaged = [given[f"ema{i}"] for i in (1, 2, 3)]
    term = branches.peer_loss(logits[:3], logits[3], averaged)
    golden.assert_case("pcl", labels_loss(logits, given["target"]) + term, given)
    decays = [branches.average_decay(t) for t in range(5)]
    assert_close(torch.tensor(decays, dtype=torch.float64), arrays["out/ema_decay_steps0to4"])
    assert branches.average_decay(10**6) == 0.999


def afd_parts(count: int) -> tuple[dict[str, Tensor], nn.ModuleList, nn.ModuleList]:
    name = f"afd_{count}_generator"
    given = golden.leaves(name)
    widths = (6, 4, 5)[:count]
    transfer = nn.ModuleList(nn.Conv2d(c, 4, 1, bias=False) for c in widths).double()
    judges = nn.ModuleList(afd.Discriminator(4) for _ in widths).double()
    golden.fill(name, transfer, "transfer")
    golden.fill(f"afd_{count}_discriminator", judges, "disc", start=20)
    return given, transfer, judges


@pytest.mark.parametrize("count", [2, 3])
def test_afd(count: int) -> None:
    given, transfer, judges = afd_parts(count)
    maps = [t(given[f"g{i}"]) for i, t in enumerate(transfer, start=1)]
    generator = afd.generator_loss(maps, list(judges.requires_grad_(False)))
    golden.assert_case(f"afd_{count}_generator", generator, given)
    golden.assert_parameters(f"afd_{count}_generator", transfer, "transfer")
    transfer.zero_grad()
    judge = afd.discriminator_loss(maps, list(judges.requires_grad_(True)))
    golden.assert_case(f"afd_{count}_discriminator", judge, {})
    golden.assert_parameters(f"afd_{count}_discriminator", judges, "disc")
    assert all(p.grad is None for p in transfer.parameters())


@pytest.mark.parametrize("count", [2, 3])
def test_afd_on_logits(count: int) -> None:
    given = golden.leaves(f"afd_{count}_logits")
    logits = logits_of(given, count)
    sources = afd.teachers_of(count)
    parts = [divergence(z, logits[n].detach(), 3.0) for z, n in zip(logits, sources, strict=True)]
    loss = labels_loss(logits, given["target"]) + torch.stack(parts).sum()
    golden.assert_case(f"afd_{count}_logits", loss, given)


@pytest.mark.parametrize(
    ("name", "weight", "block"),
    [("rocket_code", 0.03, True), ("rocket_no_block", 0.03, False), ("rocket_thesis", 0.5, True)],
)
def test_rocket(name: str, weight: float, block: bool) -> None:
    given = golden.leaves(name)
    light, booster = logits_of(given, 2)
    hint = hint_loss(light, booster.detach() if block else booster)
    golden.assert_case(name, labels_loss([light, booster], given["target"]) + weight * hint, given)
    assert math.isclose(half_squared_loss(light, booster).item(), 0.5 * hint.item())
