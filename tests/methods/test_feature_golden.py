"""Losses on features and relations equal the reference, in value and gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from benchmark.methods import ab, at, cc, fitnet, fsp, ft, kdsvd, nst, pkt, rkd, sp, vid
from benchmark.methods._connectors import ConvReg
from tests.methods import golden

GOLDEN = (
    "at_p2",
    "at_p2_teacher_larger",
    "at_p2_student_larger",
    "sp",
    "pkt",
    "rkd",
    "rkd_distance",
    "rkd_angle",
    "nst",
    "nst_teacher_larger",
    "kdsvd_k1_f32",
    "ab",
    "fsp",
    "ft_loss",
    "ft_full",
    "ft_paraphraser_init",
    "fitnet_same",
    "fitnet_stride2",
    "fitnet_deconv",
    "fitnet_bigkernel",
    "cc",
    "vid",
)

Pair = Callable[[Tensor, Tensor], Tensor]
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
STUDENT = ("feat_s0", "feat_s1", "feat_s2")
TEACHER = ("feat_t0", "feat_t1", "feat_t2")


def over_lists(
    loss: Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor],
) -> Callable[..., Tensor]:
    """Return the loss as a function of keywords feat_s*, feat_t*."""

    def call(**given: Tensor) -> Tensor:
        student = [value for key, value in given.items() if key.startswith("feat_s")]
        teacher = [value for key, value in given.items() if key.startswith("feat_t")]
        return loss(student, teacher)

    return call


def loaded(case: str, module: nn.Module, prefix: str, dtype: torch.dtype) -> nn.Module:
    """Return the adapter in ``dtype`` with the case's weights."""
    module.to(dtype).load_state_dict(golden.state(case, prefix))
    return module


@DTYPES
@pytest.mark.parametrize(
    ("case", "loss", "student", "teacher"),
    [
        ("at_p2", at.at_loss, STUDENT, TEACHER),
        ("at_p2_teacher_larger", at.at_loss, ("feat_s",), ("feat_t",)),
        ("at_p2_student_larger", at.at_loss, ("feat_s",), ("feat_t",)),
        ("nst", nst.nst_loss, STUDENT, TEACHER),
        ("nst_teacher_larger", nst.nst_loss, ("feat_s",), ("feat_t",)),
        ("fsp", fsp.fsp_loss, STUDENT, TEACHER),
    ],
)
def test_losses_on_stages(
    case: str,
    loss: Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor],
    student: tuple[str, ...],
    teacher: tuple[str, ...],
    dtype: torch.dtype,
) -> None:
    golden.assert_loss(case, over_lists(loss), student, teacher, dtype)


@DTYPES
def test_kdsvd(dtype: torch.dtype) -> None:
    # The reference computes in float32 whatever it is given.
    golden.assert_loss("kdsvd_k1_f32", over_lists(kdsvd.kdsvd_loss), STUDENT, TEACHER, dtype, 1e-5)


def rkd_total(student: Tensor, teacher: Tensor) -> Tensor:
    return 25 * rkd.distance_loss(student, teacher) + 50 * rkd.angle_loss(student, teacher)


@DTYPES
@pytest.mark.parametrize(
    ("case", "loss"),
    [
        ("pkt", pkt.pkt_loss),
        ("rkd", rkd_total),
        ("rkd_distance", rkd.distance_loss),
        ("rkd_angle", rkd.angle_loss),
    ],
)
def test_losses_on_pooled_features(case: str, loss: Pair, dtype: torch.dtype) -> None:
    golden.assert_loss(
        case,
        lambda pooled_s, pooled_t: loss(pooled_s, pooled_t),
        ("pooled_s",),
        ("pooled_t",),
        dtype,
    )


@DTYPES
def test_sp(dtype: torch.dtype) -> None:
    golden.assert_loss(
        "sp",
        lambda feat_s2, feat_t2: sp.sp_loss(feat_s2, feat_t2),
        ("feat_s2",),
        ("feat_t2",),
        dtype,
    )


@DTYPES
def test_ab(dtype: torch.dtype) -> None:
    """The case cuts the teacher's channels to the student's and names gradients feat_s*."""
    arrays, given = golden.case("ab"), golden.common()
    student = [given[f"preact_s{i}"].to(dtype).requires_grad_() for i in range(3)]
    teacher = [given[f"preact_t{i}"].to(dtype)[:, : student[i].shape[1]] for i in range(3)]
    loss = ab.ab_loss(student, teacher)
    loss.backward()  # type: ignore[no-untyped-call]
    golden.assert_close(loss, arrays["out/loss"])
    for i, s in enumerate(student):
        assert s.grad is not None
        golden.assert_close(s.grad, arrays[f"grad/feat_s{i}"])


@DTYPES
@pytest.mark.parametrize("kind", ["same", "stride2", "deconv", "bigkernel"])
def test_fitnet(kind: str, dtype: torch.dtype) -> None:
    case = f"fitnet_{kind}"
    given = golden.inputs(case)
    module = ConvReg(given["feat_s"].shape, given["feat_t"].shape)
    adapter = loaded(case, module, "conv_reg", dtype)
    golden.assert_loss(
        case,
        lambda feat_s, feat_t: fitnet.hint_loss(adapter(feat_s), feat_t),
        ("feat_s",),
        ("feat_t",),
        dtype,
    )
    assert_weight_gradients(case, adapter, "conv_reg")


def assert_weight_gradients(case: str, module: nn.Module, prefix: str) -> None:
    """Hold the parameter gradients; a bias before batch norm has none but rounding.

    Such gradients are 1e-17 or so on both sides: they are held to be as small as that, and set
    to the reference's for the comparison of all others.
    """
    arrays = golden.case(case)
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        expected = arrays.get(f"pgrad/{prefix}.{name}")
        if expected is not None and expected.abs().max() < 1e-12:
            noise = torch.finfo(parameter.dtype).eps * 10
            assert parameter.grad.abs().max() < noise, f"{case}: gradient to {name}"
            parameter.grad = expected.to(parameter.dtype)
    golden.assert_parameter_gradients(case, module, prefix)


@DTYPES
def test_ft_loss(dtype: torch.dtype) -> None:
    golden.assert_loss(
        "ft_loss",
        lambda feat_s, feat_t: ft.ft_loss(feat_s, feat_t),
        ("feat_s",),
        ("feat_t",),
        dtype,
    )


@DTYPES
def test_ft_with_translator_and_paraphraser(dtype: torch.dtype) -> None:
    arrays, given = golden.case("ft_full"), golden.common()
    translator = loaded("ft_full", ft.Translator(16, 16), "translator", dtype)
    paraphraser = ft.Paraphraser(32, 16)
    loaded("ft_full", paraphraser, "paraphraser", dtype)
    student = given["feat_s2"].to(dtype).requires_grad_()
    with torch.no_grad():
        factors = paraphraser.encoder(given["feat_t2"].to(dtype))
    loss = ft.ft_loss(translator(student), factors)
    loss.backward()  # type: ignore[no-untyped-call]
    golden.assert_close(loss, arrays["out/loss"])
    assert student.grad is not None
    golden.assert_close(student.grad, arrays["grad/feat_s"])
    assert_weight_gradients("ft_full", translator, "translator")


@DTYPES
def test_ft_first_stage(dtype: torch.dtype) -> None:
    case = "ft_paraphraser_init"
    paraphraser = loaded(case, ft.Paraphraser(32, 16), "paraphraser", dtype)
    teacher = golden.common()["feat_t2"].to(dtype)
    loss = ft.reconstruction_loss(paraphraser(teacher), teacher)
    loss.backward()  # type: ignore[no-untyped-call]
    golden.assert_close(loss, golden.case(case)["out/loss"])
    golden.assert_parameter_gradients(case, paraphraser, "paraphraser")


@DTYPES
def test_cc(dtype: torch.dtype) -> None:
    embed_s = loaded("cc", cc.CongruenceEmbed(64, 128), "embed_s", dtype)
    embed_t = loaded("cc", cc.CongruenceEmbed(128, 128), "embed_t", dtype)
    golden.assert_loss(
        "cc",
        lambda pooled_s, pooled_t: cc.cc_loss(embed_s(pooled_s), embed_t(pooled_t)),
        ("pooled_s",),
        ("pooled_t",),
        dtype,
    )
    golden.assert_parameter_gradients("cc", embed_s, "embed_s")
    golden.assert_parameter_gradients("cc", embed_t, "embed_t")


@DTYPES
def test_vid(dtype: torch.dtype) -> None:
    gaussians = nn.ModuleList(
        vid.Gaussian(s, t, variance=5.0, train_scale=True) for s, t in ((8, 16), (12, 24), (16, 32))
    )
    fresh = {key: value.clone() for key, value in gaussians.state_dict().items()}
    loaded("vid", gaussians, "vid", dtype)
    for key, value in gaussians.state_dict().items():
        if key.endswith("log_scale"):  # the reference's initial value is ours
            golden.assert_close(fresh[key], value, 1e-6, key)
    golden.assert_loss(
        "vid",
        over_lists(lambda s, t: vid.stages_loss(gaussians, s, t)),
        STUDENT,
        TEACHER,
        dtype,
    )
    golden.assert_parameter_gradients("vid", gaussians, "vid")
