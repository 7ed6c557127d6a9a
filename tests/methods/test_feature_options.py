"""What single feature methods promise: their options, their first stages, their errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.methods import ab, at, kdsvd, nst
from benchmark.methods._connectors import ConvReg
from benchmark.methods.base import Setup
from tests.methods.fakes import (
    SHAPES,
    FakeModel,
    fake_features,
    leaves,
    make_method,
    make_setup,
    make_step,
    total,
)

SMALL = ("resnet56", "resnet20")


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


# -- attention transfer -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "power", "expected"),
    [
        ("sum", 2.0, (4.0, 3.0)),
        ("sum_of_powers", 2.0, (10.0, 5.0)),
        ("mean_of_powers", 2.0, (10.0, 5.0)),
        ("max_of_powers", 2.0, (9.0, 4.0)),
        ("sum_of_powers", 3.0, (28.0, 9.0)),
        ("max_of_powers", 3.0, (27.0, 8.0)),
    ],
)
def test_attention_maps(kind: at.Map, power: float, expected: tuple[float, float]) -> None:
    features = torch.tensor([[[[1.0, -2.0]], [[3.0, 1.0]]]])  # two channels, two positions
    wanted = nn.functional.normalize(torch.tensor([expected]))
    torch.testing.assert_close(at.attention(features, kind, power), wanted)


def test_at_can_skip_stages_of_the_student() -> None:
    """mdistiller's ImageNet row of ResNet50 to MobileNetV1 compares shifted stages."""
    student, teacher = fake_features("resnet20", seed=1), fake_features("resnet56", seed=2)
    method = make_method("at", *SMALL, student_skip=2, weight=1.0)
    loss = total(method.loss(make_step(student, teacher)))
    assert loss == at.at_loss(student.stages[2:], teacher.stages[1:3])
    with pytest.raises(UserError, match="resnet20 has only 4 stages"):
        make_method("at", *SMALL, student_skip=4)


# -- VID --------------------------------------------------------------------------------------


def test_vid_variances_can_be_kept() -> None:
    trained = make_method("vid", *SMALL)
    kept = make_method("vid", *SMALL, train_log_scale=False)
    step = make_step(fake_features("resnet20", seed=1), fake_features("resnet56", seed=2))
    assert total(trained.loss(step)) == total(kept.loss(step))
    assert any("log_scale" in key for key, _ in trained.named_parameters())
    assert not any("log_scale" in key for key in kept.state_dict())


# -- NST --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 5, 3)], ids=["over channels", "over positions"])
def test_mean_kernel_is_the_mean_over_all_pairs(shape: tuple[int, int, int]) -> None:
    a, b = noise(*shape, seed=1), noise(shape[0], 4, shape[2], seed=2)
    products = torch.einsum("bcn,bdn->bcd", a, b)
    torch.testing.assert_close(nst.mean_kernel(a, b), products.square().mean())


# -- KD-SVD -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 6, 4), (2, 4, 6)], ids=["tall", "wide"])
def test_singular_vectors_are_those_of_the_svd(shape: tuple[int, int, int]) -> None:
    matrix = noise(*shape)
    vectors, values = kdsvd.right_singular_vectors(matrix, 3)
    _, expected_values, expected = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(values, expected_values[:, :3])
    cosines = (vectors * expected.mT[:, :, :3]).sum(1).abs()
    torch.testing.assert_close(cosines, torch.ones_like(cosines))


@pytest.mark.slow
@pytest.mark.parametrize("matrix", ["rows", "channels"])
def test_kdsvd_gradient_is_that_of_finite_differences(matrix: kdsvd.Matrix) -> None:
    student = [noise(2, 3, 4, 4, seed=i).requires_grad_() for i in range(2)]
    teacher = [noise(2, 3, 4, 4, seed=10 + i) for i in range(2)]

    def loss(*maps: Tensor) -> Tensor:
        return kdsvd.kdsvd_loss(maps, teacher, num_vectors=2, matrix=matrix)

    assert torch.autograd.gradcheck(loss, student)


def test_a_diverged_map_gives_nan_and_no_error() -> None:
    """Other runs of the same pack go on."""
    maps = [torch.full((2, 3, 4, 4), torch.nan), torch.ones(2, 3, 4, 4)]
    assert kdsvd.kdsvd_loss(maps, [torch.ones(2, 3, 4, 4)] * 2).isnan()


# -- first stages -----------------------------------------------------------------------------


def trainable(module: nn.Module) -> set[str]:
    return {key.split(".")[0] for key, p in module.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("student", "lr"), [("resnet20", 0.01), ("wrn_40_1", 0.01), ("vgg8", 0.05), ("resnet50", 0.05)]
)
def test_ft_paraphraser_learns_at_the_published_rate(student: str, lr: float) -> None:
    assert make_method("ft", "wrn_40_2", student).prepare_lr(0.05) == lr
    assert make_method("ft", "wrn_40_2", student, prepare_lr=0.2).prepare_lr(0.05) == 0.2


def test_ft_trains_the_paraphraser_first_and_never_again() -> None:
    method, model = make_method("ft", *SMALL), FakeModel(64)
    assert trainable(method) == {"translator"}  # what the main optimiser takes
    first = {id(p) for p in method.prepare_parameters(model)}
    assert first == {id(p) for p in method.paraphraser.parameters()}
    assert trainable(method) == {"translator", "paraphraser"}
    method.prepared()
    step = make_step(fake_features("resnet20", seed=1), fake_features("resnet56", seed=2))
    total(method.loss(step)).backward()  # type: ignore[no-untyped-call]
    assert trainable(method) == {"translator"}
    assert all(p.grad is None for p in method.paraphraser.parameters())
    assert all(p.grad is not None for p in method.translator.parameters())


@pytest.mark.parametrize("name", ["ab", "fsp"])
def test_pretraining_methods_train_the_body_first_and_then_nothing(name: str) -> None:
    pair = ("wrn_40_2", "wrn_40_1") if name == "ab" else SMALL
    method, model = make_method(name, *pair), FakeModel(SHAPES[pair[1]][1])
    assert trainable(method) == set()
    first = {id(p) for p in method.prepare_parameters(model)}
    assert first == {id(model.body), *(id(p) for p in method.parameters())}
    assert trainable(method) == ({"connectors"} if name == "ab" else set())
    method.prepared()
    assert trainable(method) == set()
    loss = total(method.loss(make_step(fake_features(pair[1]), fake_features(pair[0]))))
    assert loss == 0
    assert not loss.requires_grad
    assert method.prepare_epochs == 30


def test_ab_leaves_out_a_wide_resnets_final_batch_norm() -> None:
    method = make_method("ab", "wrn_40_2", "wrn_16_2")
    student, teacher = leaves(fake_features("wrn_16_2", seed=1)), fake_features("wrn_40_2", seed=2)
    loss = method.prepare_loss(make_step(student, teacher))
    loss.backward()  # type: ignore[no-untyped-call]
    assert [p.grad is not None for p in student.preacts] == [False, True, True, False]
    assert student.stages[-1].grad is not None
    seen = (*student.preacts[1:3], student.stages[3] / (1 + 1e-5) ** 0.5)
    torch.testing.assert_close(loss, ab.ab_loss(seen, teacher.preacts[1:]))


# -- errors and holes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fitnet", {"hint_layer": 4}, "resnet20 has stages 0 to 3"),
        ("kdsvd", {"num_vectors": 9}, "has only 8"),
        ("at", {"maps": "sum"}, "did you mean 'map'"),
    ],
)
def test_impossible_options_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_method(name, *SMALL, **options)


def test_kdsvd_over_channels_needs_equal_channels() -> None:
    with pytest.raises(UserError, match="wrn_40_1 has 16 where wrn_40_2 has 32; choose 'rows'"):
        make_method("kdsvd", "wrn_40_2", "wrn_40_1", matrix="channels")


@pytest.mark.parametrize("name", ["fitnet", "at", "vid", "nst", "ft", "ab", "fsp", "kdsvd"])
def test_token_sequences_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def tokens(teacher: str, student: str) -> Setup:
        setup = make_setup(teacher, student)
        features = setup.student.features
        sequences = tuple(stage.flatten(2).mT for stage in features.stages)
        probe = setup.student._replace(features=features._replace(stages=sequences))
        return Setup(probe, setup.teacher, setup.num_classes, setup.labels, 8, 10, 0)

    monkeypatch.setattr("tests.methods.fakes.make_setup", tokens)
    with pytest.raises(UserError, match=rf"{name} needs feature maps .* resnet20 has"):
        make_method(name, *SMALL)


def test_a_regressor_reaches_any_larger_map() -> None:
    """The reference code stops where the teacher's map is larger by more than twice."""
    student, teacher = torch.ones(2, 3, 4, 4), torch.ones(2, 5, 16, 16)
    assert ConvReg(student.shape, teacher.shape)(student).shape == teacher.shape
