"""Losses behind trained adapters, on class maps and against a memory equal the reference."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.methods import catkd, crd, ofd, projector, reviewkd, semckd, simkd, srrl
from benchmark.methods.kd import kd_loss
from tests.methods import golden

GOLDEN = (
    "ofd",
    "hcl",
    "hcl_1x1",
    "hcl_2x2",
    "reviewkd_abf_same",
    "reviewkd_abf_resize",
    "simkd_f2_same",
    "simkd_f2_s_larger",
    "simkd_f2_t_larger",
    "simkd_f4_same",
    "simkd_f4_s_larger",
    "simkd_f4_t_larger",
    "catkd_res2_norm0",
    "catkd_res2_norm1",
    "catkd_res4_norm0",
    "catkd_res4_norm1",
    "catkd_binarize",
    "srrl",
    "semckd",
    "srd_imagenet_feature",
    "srd_imagenet_total",
    "srd_deit_feature",
    "crd_step1",
    "crd_step2",
)
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
STUDENT = ("feat_s0", "feat_s1", "feat_s2")
TEACHER = ("feat_t0", "feat_t1", "feat_t2")


def same_key(key: str) -> str:
    return key


def load(
    case: str,
    adapter: nn.Module,
    prefix: str,
    dtype: torch.dtype,
    rename: Callable[[str], str] = same_key,
) -> None:
    """Give the adapter the case's weights; ``rename`` maps our keys to the reference's."""
    weights = golden.state(case, prefix)
    adapter.to(dtype).load_state_dict({key: weights[rename(key)] for key in adapter.state_dict()})


def assert_weight_gradients(
    case: str, adapter: nn.Module, prefix: str, rename: Callable[[str], str] = same_key
) -> None:
    """Hold the parameter gradients; those that are rounding noise must be as small here."""
    arrays = golden.case(case)
    names = {name: rename(name) for name, _ in adapter.named_parameters()}
    for name, parameter in adapter.named_parameters():
        expected = arrays.get(f"pgrad/{prefix}.{names[name]}")
        if expected is not None and expected.abs().max() < 1e-12:
            assert parameter.grad is not None
            bound = torch.finfo(parameter.dtype).eps * 100
            assert parameter.grad.abs().max() < bound, f"{case}: gradient to {name}"
            parameter.grad = expected.to(parameter.dtype)
    golden.assert_parameter_gradients(case, adapter, prefix, rename=names)


@DTYPES
def test_ofd(dtype: torch.dtype) -> None:
    arrays, given = golden.case("ofd"), golden.common()
    widths = ((8, 16), (12, 24), (16, 32))
    connectors = nn.ModuleList(ofd.connector(s, t) for s, t in widths)
    load("ofd", connectors, "connectors", dtype, lambda key: f"connectors.{key}")
    margins = []
    for i in range(3):
        margins.append(ofd.margins(arrays[f"in/bn_weight{i}"], arrays[f"in/bn_bias{i}"]))
        golden.assert_close(margins[i], arrays[f"out/margin{i}"].flatten(), 1e-6)
    student = [given[f"preact_s{i}"].to(dtype).requires_grad_() for i in range(3)]
    teacher = [given[f"preact_t{i}"].to(dtype) for i in range(3)]
    connected = [connect(s) for connect, s in zip(connectors, student, strict=True)]
    loss = ofd.ofd_loss(connected, teacher, [margin.to(dtype) for margin in margins])
    loss.backward()  # type: ignore[no-untyped-call]
    golden.assert_close(loss, arrays["out/loss"])
    for i, s in enumerate(student):
        assert s.grad is not None
        golden.assert_close(s.grad, arrays[f"grad/feat_s{i}"])
    assert_weight_gradients("ofd", connectors, "connectors", lambda key: f"connectors.{key}")


@DTYPES
@pytest.mark.parametrize("case", ["hcl", "hcl_1x1", "hcl_2x2"])
def test_hcl(case: str, dtype: torch.dtype) -> None:
    student, teacher = (STUDENT, TEACHER) if case == "hcl" else (("feat_s",), ("feat_t",))

    def loss(**given: Tensor) -> Tensor:
        return reviewkd.hcl_loss([given[k] for k in student], [given[k] for k in teacher])

    golden.assert_loss(case, loss, student, teacher, dtype)


@DTYPES
@pytest.mark.parametrize("kind", ["same", "resize"])
def test_reviewkd(kind: str, dtype: torch.dtype) -> None:
    case = f"reviewkd_abf_{kind}"
    arrays, given = golden.case(case), golden.inputs(case)
    student = [given[f"feat_s{i}"].to(dtype).requires_grad_() for i in range(4)]
    teacher = [given[f"feat_t{i}"].to(dtype) for i in range(4)]
    fusions = reviewkd.fusions(student, teacher, max_mid_channels=512)

    def rename(key: str) -> str:
        return key.replace("attention", "att_conv.0")

    load(case, fusions, "abfs", dtype, rename)
    results = reviewkd.review(list(fusions), student)
    loss = reviewkd.hcl_loss(results, teacher)
    loss.backward()  # type: ignore[no-untyped-call]
    golden.assert_close(loss, arrays["out/loss"])
    for i, s in enumerate(student):
        assert s.grad is not None
        golden.assert_close(results[i], arrays[f"out/result{i}"])
        golden.assert_close(s.grad, arrays[f"grad/feat_s{i}"])
    assert_weight_gradients(case, fusions, "abfs", rename)


@DTYPES
@pytest.mark.parametrize("sizes", ["same", "s_larger", "t_larger"])
@pytest.mark.parametrize("factor", [2, 4])
def test_simkd(factor: int, sizes: str, dtype: torch.dtype) -> None:
    case = f"simkd_f{factor}_{sizes}"
    arrays, head = golden.case(case), golden.case("simkd_common")
    adapter = simkd.MapProjector(16, 32, factor)
    load(case, adapter, "simkd", dtype)
    predictions = []

    def loss(feat_s: Tensor, feat_t: Tensor) -> Tensor:
        projected = adapter(simkd.pooled_to(feat_s, (feat_t.shape[2], feat_t.shape[3])))
        pooled = projected.mean((2, 3))
        weight, bias = head["cls_t.weight"].to(dtype), head["cls_t.bias"].to(dtype)
        predictions.append(F.linear(pooled, weight, bias))
        return simkd.simkd_loss(projected, feat_t)

    golden.assert_loss(case, loss, ("feat_s",), ("feat_t",), dtype)
    golden.assert_close(predictions[0], arrays["out/pred"])
    assert_weight_gradients(case, adapter, "simkd")


@DTYPES
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("resolution", [2, 4])
def test_catkd(resolution: int, normalize: bool, dtype: torch.dtype) -> None:
    golden.assert_loss(
        f"catkd_res{resolution}_norm{int(normalize)}",
        lambda cam_s, cam_t: catkd.catkd_loss(cam_s, cam_t, resolution, normalize),
        ("cam_s",),
        ("cam_t",),
        dtype,
    )


def test_catkd_binarized() -> None:
    teacher = golden.inputs("catkd_res2_norm0")["cam_t"]
    expected = golden.case("catkd_binarize")["out/cam_t_binarized"]
    assert torch.equal(catkd.binarized(teacher), expected)


@DTYPES
def test_srrl(dtype: torch.dtype) -> None:
    adapter = srrl.Connector(64, 128)
    load("srrl", adapter, "srrl", dtype)
    head = golden.state("srrl", "cls_t")

    def loss(pooled_s: Tensor, pooled_t: Tensor, logit_t: Tensor) -> Tensor:
        projected = adapter(pooled_s)
        predicted = F.linear(projected, head["weight"].to(dtype), head["bias"].to(dtype))
        return srrl.srrl_loss(projected, pooled_t, predicted, logit_t)

    golden.assert_loss("srrl", loss, ("pooled_s",), ("pooled_t", "logit_t"), dtype)
    assert_weight_gradients("srrl", adapter, "srrl")


def semckd_key(key: str) -> str:
    key = re.sub(r"^queries\.(\d)", r"query_\1", key)
    key = re.sub(r"^keys\.(\d)", r"key_\1", key)
    return re.sub(r"^projectors\.(\d)\.(\d)", r"regressor\1\2.regressor", key)


@DTYPES
def test_semckd(dtype: torch.dtype) -> None:
    adapter = semckd.CrossLayer((8, 12, 16), (16, 24, 32), batch_size=8)
    load("semckd", adapter, "selfa", dtype, semckd_key)
    weights = []

    def loss(**given: Tensor) -> Tensor:
        student, teacher = [given[k] for k in STUDENT], [given[k] for k in TEACHER]
        weights.append(adapter.weights(student, teacher, 1.0))
        loss: Tensor = adapter(student, teacher, 1.0)
        return loss

    golden.assert_loss("semckd", loss, STUDENT, TEACHER, dtype)
    golden.assert_close(weights[0], golden.case("semckd")["out/attention"])
    assert_weight_gradients("semckd", adapter, "selfa", semckd_key)


def srd_feature(adapter: nn.Module, feat_s: Tensor, feat_t: Tensor) -> Tensor:
    s = projector.normalised(adapter(feat_s.mean((2, 3))), "batch", 1e-4)
    t = projector.normalised(feat_t.mean((2, 3)), "batch", 1e-4)
    return projector.logsum_distance(s, t, 4.0, 0.0)


def embed_key(key: str) -> str:
    return f"embed.{key}"


@DTYPES
def test_simple_recipe_imagenet(dtype: torch.dtype) -> None:
    case = "srd_imagenet_feature"
    adapter = nn.Linear(512, 512)
    load(case, adapter, "srd", dtype, embed_key)
    golden.assert_loss(
        case,
        lambda feat_s, feat_t: srd_feature(adapter, feat_s, feat_t),
        ("feat_s",),
        ("feat_t",),
        dtype,
    )
    assert_weight_gradients(case, adapter, "srd", embed_key)


@DTYPES
def test_simple_recipe_imagenet_with_kl(dtype: torch.dtype) -> None:
    case = "srd_imagenet_total"
    adapter = nn.Linear(512, 512)
    load(case, adapter, "srd", dtype, embed_key)
    arrays, logits = golden.case(case), golden.inputs(case)
    maps = golden.inputs("srd_imagenet_feature")
    student, y_s = (x.to(dtype).requires_grad_() for x in (maps["feat_s"], logits["y_s"]))
    distance = srd_feature(adapter, student, maps["feat_t"].to(dtype))
    loss = 2 * distance + kd_loss(y_s, logits["y_t"].to(dtype), 1.0)
    loss.backward()  # type: ignore[no-untyped-call]
    golden.assert_close(loss, arrays["out/loss"])
    for tensor, key in ((student, "feat_s"), (y_s, "y_s")):
        assert tensor.grad is not None
        golden.assert_close(tensor.grad, arrays[f"grad/{key}"])
    assert_weight_gradients(case, adapter, "srd", embed_key)


@DTYPES
def test_simple_recipe_deit(dtype: torch.dtype) -> None:
    adapter = nn.Linear(24, 48)
    load("srd_deit_feature", adapter, "srd", dtype, embed_key)

    def loss(z_s: Tensor, z_t: Tensor) -> Tensor:
        s = projector.normalised(adapter(z_s), "batch", 1e-30)
        t = projector.normalised(z_t, "batch", 1e-30)
        return projector.correlation_distance(s, t, 4.0, 1e-5)

    golden.assert_loss("srd_deit_feature", loss, ("z_s",), ("z_t",), dtype)
    assert_weight_gradients("srd_deit_feature", adapter, "srd", embed_key)


@DTYPES
def test_crd(dtype: torch.dtype) -> None:
    """Two steps: the second with the updated memories and the constants of the first."""
    given, memories = golden.common(), golden.case("crd")
    embed_s, embed_t = crd.LinearEmbed(64, 16), crd.LinearEmbed(128, 16)
    load("crd_step1", embed_s, "embed_s", dtype)
    load("crd_step1", embed_t, "embed_t", dtype)
    bank = crd.Bank(50, 16).to(dtype)
    bank.memory_s.copy_(memories["in/memory_v1"])
    bank.memory_t.copy_(memories["in/memory_v2"])
    chosen = memories["in/contrast_idx"]
    assert torch.equal(chosen[:, 0], memories["in/idx"])
    for case in ("crd_step1", "crd_step2"):
        arrays = golden.case(case)
        student = given["pooled_s"].to(dtype, copy=True).requires_grad_()
        embed_s.zero_grad()
        embed_t.zero_grad()
        anchors = embed_s(student), embed_t(given["pooled_t"].to(dtype))
        loss = bank.contrast(*anchors, chosen, temperature=0.07)
        bank.refresh(*anchors, chosen[:, 0], momentum=0.5)
        loss.backward()  # type: ignore[no-untyped-call]
        golden.assert_close(loss, arrays["out/loss"].reshape(()), what=case)
        golden.assert_close(bank.log_z_s.exp(), arrays["out/Z_v1"], what=case)
        golden.assert_close(bank.log_z_t.exp(), arrays["out/Z_v2"], what=case)
        golden.assert_close(bank.memory_s, arrays["out/memory_v1_after"], what=case)
        golden.assert_close(bank.memory_t, arrays["out/memory_v2_after"], what=case)
        assert student.grad is not None
        golden.assert_close(student.grad, arrays["grad/pooled_s"], what=case)
        assert_weight_gradients(case, embed_s, "embed_s")
        assert_weight_gradients(case, embed_t, "embed_t")
