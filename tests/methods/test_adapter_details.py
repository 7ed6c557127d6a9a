"""What each method with adapters or class maps does that the others do not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmark.methods import build_method, catkd, ofd, projector, reviewkd
from benchmark.methods.base import Probe, Setup
from benchmark.models.features import Features
from tests.methods.adapters import SMALL, Network, World, features, leaves, noise
from tests.methods.fakes import CLASSES, total

# -- OFD and ReviewKD ---------------------------------------------------------------------------


def test_margin_of_a_constant_channel() -> None:
    found = ofd.margins(torch.tensor([0.0, 0.0, 0.0, -1.0]), torch.tensor([-2.0, 3.0, 0.0, 9.0]))
    assert found.tolist() == [-2.0, 0.0, 0.0, -3.0]


def test_ofd_matches_the_deepest_stages_where_a_teacher_names_fewer_batch_norms() -> None:
    names = ("resnet32x4", "resnet8x4")
    teacher = Network(names[0])
    teacher.norms = teacher.norms[1:]
    networks = (teacher, Network(names[1]))
    probes = [Probe(n, m, features(n)) for n, m in zip(names, networks, strict=True)]
    setup = Setup(probes[1], probes[0], CLASSES, torch.arange(50) % CLASSES, 2, 10, 0)
    method = build_method("ofd", setup)
    assert [p.shape[0] for k, p in method.named_parameters() if k.endswith("0.weight")] == [
        128,
        256,
    ]


@pytest.mark.parametrize(("name", "default"), [("ofd", "train"), ("reviewkd", None)])
def test_teacher_mode_is_an_option(name: str, default: str | None) -> None:
    assert World(name, SMALL).method.private_teacher == default
    for mode, private in (("train", "train"), ("eval", None)):
        assert World(name, SMALL, teacher_mode=mode).method.private_teacher == private


@pytest.mark.parametrize(
    ("pair", "widths", "outs", "sizes"),
    [
        (("resnet32x4", "resnet8x4"), [64, 128, 256, 256], [64, 128, 256, 256], [1, 8, 16, 32]),
        (("resnet56", "resnet20"), [16, 32, 64, 64], [16, 32, 64, 64], [1, 8, 16, 32]),
        (("wrn_40_2", "wrn_40_1"), [16, 32, 64, 64], [32, 64, 128, 128], [1, 8, 16, 32]),
        (("vgg13", "vgg8"), [128, 256, 512, 512, 512], [128, 256, 512, 512, 512], [1, 4, 4, 8, 16]),
        (
            ("resnet50", "mobilenetv2"),
            [12, 16, 48, 160, 1280],
            [256, 512, 1024, 2048, 2048],
            [1, 4, 8, 16, 32],
        ),
        (("wrn_40_2", "shufflenetv1"), [240, 480, 960, 960], [32, 64, 128, 128], [1, 8, 16, 32]),
        (
            ("resnet32x4", "shufflenetv2"),
            [116, 232, 464, 1024],
            [64, 128, 256, 256],
            [1, 8, 16, 32],
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_reviewkd_geometry_is_the_published_one(
    pair: tuple[str, str], widths: list[int], outs: list[int], sizes: list[int]
) -> None:
    method = World("reviewkd", pair).method
    state = method.state_dict()
    levels = range(len(widths))
    assert [state[f"abfs.{i}.conv1.0.weight"].shape[1] for i in levels] == widths[::-1]
    assert [state[f"abfs.{i}.conv2.0.weight"].shape[0] for i in levels] == outs[::-1]
    assert [fusion.out_size for fusion in method.abfs] == [(s, s) for s in sizes]  # type: ignore[operator, union-attr]
    assert state["abfs.0.conv1.0.weight"].shape[0] == min(512, widths[-1])


@pytest.mark.parametrize(
    ("options", "shares"),
    [
        ({}, [0.05, 0.5, 1.0, 1.0]),
        ({"first_epoch": 0}, [0.0, 0.45, 0.95, 1.0]),
        ({"warmup_epochs": 1}, [1.0, 1.0, 1.0, 1.0]),
        ({"warmup_epochs": 0}, [1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_reviewkd_warms_up(options: dict[str, int], shares: list[float]) -> None:
    found = [reviewkd.warmup(epoch, reviewkd.Options(**options)) for epoch in (1, 10, 20, 21)]
    assert found == shares


# -- SimKD and CAT-KD ---------------------------------------------------------------------------


def simkd_tracked(world: World) -> int:
    return int(world.method.state_dict()["simkd.transfer.1.num_batches_tracked"])


def test_simkd_runs_its_projector_once_a_step() -> None:
    world = World("simkd", SMALL)
    student, teacher = leaves(features(SMALL[1], 4)), features(SMALL[0], 4)
    loss, logits = world.method.forward(world.step(student, teacher))
    assert simkd_tracked(world) == 1
    (logits.sum() + total(loss)).backward()  # type: ignore[no-untyped-call]
    # The unused classifier decays: its gradient is zero, not absent.
    assert student.logits.grad is not None
    assert not student.logits.grad.any()


def test_simkd_predicts_with_the_teachers_classifier() -> None:
    world = World("simkd", SMALL)
    student = features(SMALL[1], 4)
    world.method.eval()
    assert student.last_map is not None
    projected = world.method.simkd(student.last_map)  # type: ignore[operator]
    expected = world.teacher.head(projected.mean((2, 3)))
    torch.testing.assert_close(world.method.predict(student), expected)
    assert all("head" not in key for key, _ in world.method.named_parameters())
    assert world.method.ce_weight == 0


def test_catkd_logits_are_pooled_class_maps() -> None:
    world = World("catkd", SMALL)
    student = leaves(features(SMALL[1], 4))
    assert student.last_map is not None
    maps = catkd.class_activation_maps(student.last_map, world.student.head.weight)
    pooled = student._replace(pooled=student.last_map.mean((2, 3)))
    torch.testing.assert_close(world.method.predict(pooled), maps.mean((2, 3)))
    assert not list(world.method.parameters())
    world.gradients(student, features(SMALL[0], 4))
    assert world.student.head.bias.grad is None
    assert world.student.head.weight.grad is not None


# -- SemCKD and the simple recipe ---------------------------------------------------------------


def test_semckd_leaves_out_incomplete_batches() -> None:
    world = World("semckd", SMALL, batch=4)
    student, teacher = features(SMALL[1], 3), features(SMALL[0], 3)
    terms = world.method.loss(world.step(student, teacher))
    assert isinstance(terms, dict)
    assert set(terms) == {"kd"}


@pytest.mark.parametrize("distance", ["l2", "logsum", "correlation"])
@pytest.mark.parametrize("norm", ["none", "l2", "batch"])
@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_projector_ablations_train(kind: str, norm: str, distance: str) -> None:
    world = World("projector", SMALL, projector=kind, norm=norm, distance=distance)
    found = world.gradients(features(SMALL[1], 4, seed=1), features(SMALL[0], 4, seed=2))
    assert all(tensor.isfinite().all() for tensor in found)
    assert len(list(world.method.parameters())) == (2 if kind == "linear" else 4)


def test_projector_is_finite_where_both_agree() -> None:
    same = noise(3, 4).requires_grad_()
    loss = projector.logsum_distance(same, same.detach(), 4.0, 0.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite()
    assert same.grad is not None
    assert not same.grad.any()


def test_mean_patch_token_leaves_out_the_prefix() -> None:
    tokens = noise(2, 4 * 4 + 2, 6)
    given = Features(noise(2, 3), tokens[:, 0], (tokens,), (tokens,))
    found = projector.student_feature(given, "patch_mean")
    expected = nn.functional.layer_norm(tokens[:, 2:], (6,)).mean(1)
    torch.testing.assert_close(found, expected)
    assert projector.student_feature(given, "pooled") is given.pooled
