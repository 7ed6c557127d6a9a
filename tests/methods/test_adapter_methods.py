"""Methods with adapters, class maps or memories: every pair, degenerate batches, precision."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmark.errors import UserError
from benchmark.methods import (
    build_method,
    catkd,
    crd,
    ofd,
    projector,
    reviewkd,
    semckd,
    simkd,
    srrl,
)
from benchmark.methods.base import Method, Probe, Setup, Step
from benchmark.models.features import Features
from tests.methods.fakes import CLASSES, PAIRS, SHAPES, FakeModel, fake_features, total

METHODS = ("ofd", "reviewkd", "simkd", "catkd", "srrl", "semckd", "projector", "crd")
SMALL = ("resnet56", "resnet20")
# Trained parameters as counted in the reference code, in the order of PAIRS; None where it stops.
# CRD's count there holds two memories of 50 x 128 and five settings.
EXTRA: dict[str, tuple[int | None, ...]] = {
    "ofd": (
        *(5600, 5600, 86912, 21952, 11200, 609024),
        *(None, None, None, None, 156800, None),
    ),
    "reviewkd": (
        *(114278, 114278, 1808774, 453830, 216006, 9847560),
        *(4607366, 2984646, 9640712, 27933192, 4195718, 28140040),
    ),
    "crd": (
        *(29445, 29445, 78597, 45829, 37637, 144133),
        *(168709, 152325, 242437, 439045, 176901, 340741),
    ),
}


class Network(FakeModel):
    """A fake with batch norms as wide as the pre-activations of the network it stands for."""

    def __init__(self, name: str) -> None:
        stages, width = SHAPES[name]
        super().__init__(width)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for channels, _ in stages[1:])

    def batch_norms_before_relu(self) -> tuple[nn.BatchNorm2d, ...]:
        return tuple(norm for norm in self.norms if isinstance(norm, nn.BatchNorm2d))


def features(name: str, batch: int = 2, seed: int = 0) -> Features:
    """Return random features of the network's shapes, the last map included."""
    found = fake_features(name, batch, seed)
    stages, width = SHAPES[name]
    generator = torch.Generator().manual_seed(seed)
    side = stages[-1][1]
    last = found.stages[-1]
    if last.shape[1] != width:
        last = torch.randn(batch, width, side, side, generator=generator).relu()
    return found._replace(last_map=last, pooled=last.mean((2, 3)))


def changed(given: Features, change: Callable[[Tensor], Tensor]) -> Features:
    assert given.last_map is not None
    return Features(
        change(given.logits),
        change(given.pooled),
        tuple(change(stage) for stage in given.stages),
        tuple(change(preact) for preact in given.preacts),
        change(given.last_map),
    )


def leaves(given: Features) -> Features:
    return changed(given, lambda tensor: tensor.detach().clone().requires_grad_())


def tensors(given: Features) -> tuple[Tensor, ...]:
    assert given.last_map is not None
    return (given.logits, given.pooled, *given.stages, *given.preacts, given.last_map)


class World:
    """A pair of networks, a method between them, and steps for it."""

    def __init__(self, method: str, pair: tuple[str, str], batch: int = 2, **options: Any) -> None:
        torch.manual_seed(0)
        self.teacher, self.student = (Network(name) for name in pair)
        setup = Setup(
            Probe(pair[1], self.student, features(pair[1])),
            Probe(pair[0], self.teacher, features(pair[0])),
            CLASSES,
            torch.arange(50) % CLASSES,
            batch,
            epochs=10,
            seed=0,
        )
        if method == "crd":
            options.setdefault("num_negatives", 20)
        self.method: Method[Any] = build_method(method, setup, **options).train()

    def step(self, student: Features, teacher: Features, epoch: int = 1) -> Step:
        batch = len(student.logits)
        return Step(
            images=torch.zeros(batch, 3, 2, 2),
            labels=torch.arange(batch) % CLASSES,
            indices=torch.arange(batch),
            student=student,
            teacher=teacher,
            epoch=epoch,
            student_head=self.student.head,
            teacher_head=self.teacher.head,
        )

    def gradients(self, student: Features, teacher: Features) -> list[Tensor]:
        """Return the loss and its gradients to the student's features and the adapters."""
        student = leaves(student)
        loss = total(self.method.loss(self.step(student, teacher)))
        loss.backward()  # type: ignore[no-untyped-call]
        reached = [tensor.grad for tensor in tensors(student) if tensor.grad is not None]
        assert reached, "no gradient to the student"
        for key, parameter in self.method.named_parameters():
            assert parameter.grad is not None, f"no gradient to {key}"
            reached.append(parameter.grad)
        assert all(p.grad is None for p in self.teacher.parameters()), "gradient to the teacher"
        return [loss.detach(), *reached]


def pair_cases() -> list[Any]:
    """Every method on every pair; 0.8 billion parameters of SemCKD's are for the slow suite."""
    return [
        pytest.param(
            name,
            pair,
            id=f"{name}-{'-'.join(pair)}",
            marks=[pytest.mark.slow] if name == "semckd" and pair[0] == "resnet50" else [],
        )
        for name in METHODS
        for pair in PAIRS
    ]


@pytest.mark.parametrize(("name", "pair"), pair_cases())
def test_every_pair_trains(name: str, pair: tuple[str, str]) -> None:
    world = World(name, pair)
    found = world.gradients(features(pair[1], seed=1), features(pair[0], seed=2))
    assert all(tensor.isfinite().all() for tensor in found)
    assert any(tensor.any() for tensor in found[1:])
    reference = EXTRA[name][PAIRS.index(pair)] if name in EXTRA else None
    if reference is not None:
        counted = sum(p.numel() for p in world.method.parameters())
        assert counted == reference - (2 * 50 * 128 + 5 if name == "crd" else 0)


def first_of_batch(tensor: Tensor) -> Tensor:
    return tensor[:1]


def two_alike(tensor: Tensor) -> Tensor:
    return tensor[[0, 0, 1]]


def constant(tensor: Tensor) -> Tensor:
    return torch.full_like(tensor, 0.5)


def zero(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor)


UNDEFINED_FOR_ONE = ("reviewkd", "srrl", "projector")


@pytest.mark.parametrize("change", [first_of_batch, two_alike, constant, zero])
@pytest.mark.parametrize("name", METHODS)
def test_degenerate_batches(name: str, change: Callable[[Tensor], Tensor]) -> None:
    """Where both networks, or the student alone, see such a batch: finite, or a clear error."""
    student, teacher = features(SMALL[1], 3, seed=1), features(SMALL[0], 3, seed=2)
    cases = [(changed(student, change), changed(teacher, change))]
    if change is not first_of_batch:
        cases.append((changed(student, change), teacher))
    for s, t in cases:
        world = World(name, SMALL, batch=len(s.logits))
        if change is first_of_batch and name in UNDEFINED_FOR_ONE:
            with pytest.raises(UserError, match=f"{name} normalises over the batch"):
                world.gradients(s, t)
            continue
        assert all(tensor.isfinite().all() for tensor in world.gradients(s, t))


@pytest.mark.parametrize("name", METHODS)
def test_bf16_autocast_is_finite(name: str) -> None:
    student, teacher = features(SMALL[1], 8, seed=1), features(SMALL[0], 8, seed=2)
    student, teacher = changed(student, Tensor.bfloat16), changed(teacher, Tensor.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = World(name, SMALL, batch=8).gradients(student, teacher)
    assert found[0].dtype == torch.float32
    assert all(tensor.isfinite().all() for tensor in found)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Made outside: random numbers do not trace.
S = [noise(3, 4, 8, 8), noise(3, 6, 4, 4)]
T = [noise(3, 4, 8, 8, seed=1), noise(3, 6, 4, 4, seed=1)]
LARGE, WIDE = noise(3, 6, 8, 8), noise(3, 6, 8, 8)
VECTORS, OTHERS, MEMORY = noise(3, 4), noise(3, 4, seed=1), noise(9, 4)
MARGINS = [-noise(4).abs(), -noise(6).abs()]
ATTENTION = semckd.attention(noise(3, 1, 2), noise(3, 2, 2), 1.0)
CHOSEN, LOG_Z = torch.arange(9).view(3, 3), torch.tensor(3.0)


def logsum(student: Tensor) -> Tensor:
    student = projector.normalised(student, "batch", 1e-4)
    return projector.logsum_distance(student, VECTORS, 4.0, 0.0)


def correlation(student: Tensor) -> Tensor:
    student = projector.normalised(student, "l2", 1e-4)
    return projector.correlation_distance(student, VECTORS, 4.0, 1e-5)


def contrast(student: Tensor) -> Tensor:
    return crd.nce_loss(crd.similarities(crd.unit(student), MEMORY, CHOSEN, 0.07), LOG_Z, 9)


LOSSES: dict[str, tuple[Callable[..., Tensor], Tensor]] = {
    "ofd": (lambda s: ofd.ofd_loss([s, S[1]], T, MARGINS), S[0]),
    "hcl": (lambda s: reviewkd.hcl_loss([s, S[1]], T), S[0]),
    "simkd": (lambda s: simkd.simkd_loss(s, LARGE), S[1]),
    "catkd": (lambda s: catkd.catkd_loss(s, WIDE, 2, True), S[1]),
    "srrl": (lambda s: srrl.srrl_loss(s, VECTORS, s, VECTORS), OTHERS),
    "semckd": (lambda s: semckd.semckd_loss([[s, s]], [[T[0], T[0]]], ATTENTION), S[0]),
    "semckd_gram": (lambda s: semckd.gram(s).sum(), S[0]),
    "projector_l2": (lambda s: projector.l2_distance(s, VECTORS), OTHERS),
    "projector_logsum": (logsum, OTHERS),
    "projector_correlation": (correlation, OTHERS),
    "crd": (contrast, OTHERS),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_compile_without_breaks(name: str) -> None:
    loss, student = LOSSES[name]
    found = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        given = student.clone().requires_grad_()
        value = function(given)
        found.append((value, *torch.autograd.grad(value, given)))
    for eager, traced in zip(*found, strict=True):
        torch.testing.assert_close(traced, eager)


@pytest.mark.parametrize("name", ["ofd", "reviewkd", "simkd", "catkd", "semckd"])
def test_transformers_are_refused_by_name(name: str) -> None:
    tokens = Features(
        torch.zeros(2, CLASSES), torch.zeros(2, 8), (torch.zeros(2, 5, 8),), (torch.zeros(2, 5, 8),)
    )
    setup = Setup(
        Probe("vit", Network("resnet20"), tokens),
        Probe("resnet56", Network("resnet56"), features("resnet56")),
        *(CLASSES, torch.arange(50) % CLASSES, 2, 10, 0),
    )
    with pytest.raises(UserError, match=rf"{name} needs .*vit"):
        build_method(name, setup)


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
    logits = world.method.predict(student)
    loss = total(world.method.loss(world.step(student, teacher)))
    assert simkd_tracked(world) == 1
    copy.deepcopy(world.method)
    (logits.sum() + loss).backward()  # type: ignore[no-untyped-call]
    # The unused classifier decays: its gradient is zero, not absent.
    assert student.logits.grad is not None
    assert not student.logits.grad.any()
    # A later question is a new step, also where the features are the same.
    with torch.no_grad():
        for parameter in world.method.parameters():
            parameter.mul_(2)
        after = total(world.method.loss(world.step(student, teacher)))
    assert simkd_tracked(world) == 2
    assert after != loss.detach()


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
