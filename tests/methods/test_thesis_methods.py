"""The thesis' methods equal their walks written as loops, and keep what they promise."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.methods.earth_mover_kd import earth_mover_loss, moved_probabilities
from benchmark.methods.relative_kd import ThesisReading, relative_logits
from benchmark.methods.spherical_kd import on_sphere, spherical_cross_entropy, spherical_loss
from benchmark.methods.two_temperature_kd import two_temperature_loss
from benchmark.methods.vanilla_kd import vanilla_loss
from tests.methods.tiny import make_method, make_model, make_step, step_of_logits

READINGS = [
    ThesisReading(order=order, signed=signed, max_additions=limit, walk_label=walk, zero_label=zero)
    for order, signed, limit, walk, zero in itertools.product(
        ("value", "magnitude"), (False, True), (None, 2), (False, True), (False, True)
    )
]


def teacher_batch(num_classes: int = 10, batch: int = 60) -> tuple[Tensor, Tensor]:
    """Return logits [B, K], float64, and labels; the teacher is right on about half of them."""
    generator = torch.Generator().manual_seed(num_classes)
    logits = 2 * torch.randn(batch, num_classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(num_classes, (batch,), generator=generator)
    logits[::2].scatter_add_(1, labels[::2, None], torch.full((batch // 2, 1), 6.0).double())
    return logits, labels


def _sequence(z: list[float], own: int, reading: ThesisReading) -> list[int]:
    key = (lambda i: z[i]) if reading.order == "value" else (lambda i: abs(z[i]))
    return [i for i in sorted(range(len(z)), key=key) if reading.walk_label or i != own]


def loop_lowered(z: list[float], own: int, reading: ThesisReading) -> tuple[float, list[int]]:
    second = sorted(z)[-2]
    value, used = z[own], []
    for i in _sequence(z, own, reading):
        lower = value - (z[i] if reading.signed else abs(z[i]))
        if lower < second:
            break
        value, used = lower, [*used, i]
    return value, used


def loop_raised(z: list[float], own: int, reading: ThesisReading) -> tuple[float, list[int]]:
    value, used = z[own], []
    for i in _sequence(z, own, reading):
        if value > max(z) or len(used) == reading.max_additions:
            break
        value, used = value + abs(z[i]), [*used, i]
    return value, used


def loop_relative(z: list[float], label: int, version: int, reading: ThesisReading) -> list[float]:
    right = max(range(len(z)), key=z.__getitem__) == label
    result = list(z)
    if version == 4:
        own = label if reading.lower == "label" else max(range(len(z)), key=z.__getitem__)
        result[own] = loop_lowered(z, own, reading)[0]
        return result
    if version == 1 and not right:
        return [0.0] * len(z)
    value, used = (loop_lowered if right else loop_raised)(z, label, reading)
    result[label] = value
    if version == 3:
        for i in used:
            if i != label or reading.zero_label:
                result[i] = 0.0
    return result


@pytest.mark.parametrize("num_classes", [10, 100])
@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_relative_versions_are_their_loops(version: int, num_classes: int) -> None:
    logits, labels = teacher_batch(num_classes)
    for reading in (
        READINGS if num_classes == 10 else [ThesisReading(), ThesisReading(order="magnitude")]
    ):
        expected = torch.tensor(
            [
                loop_relative(z, y, version, reading)
                for z, y in zip(logits.tolist(), labels.tolist(), strict=True)
            ],
            dtype=torch.float64,
        )
        found = relative_logits(logits, labels, version, reading)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_relative_moves_something_on_right_and_wrong_samples() -> None:
    logits, labels = teacher_batch(100)
    right = logits.argmax(1) == labels
    assert 10 < int(right.sum()) < 50
    changed = relative_logits(logits, labels, 2)
    moved = (changed != logits).any(1)
    assert moved[~right].all()
    assert moved[right].any()
    assert (changed.argmax(1) == labels).all()
    assert (relative_logits(logits, labels, 1)[~right] == 0).all()


def test_relative_version_4_with_the_label_leaves_wrong_samples() -> None:
    logits, labels = teacher_batch(100)
    wrong = logits.argmax(1) != labels
    by_label = relative_logits(logits, labels, 4, ThesisReading("magnitude", lower="label"))
    by_prediction = relative_logits(logits, labels, 4, ThesisReading("magnitude"))
    assert torch.equal(by_label[wrong], logits[wrong])
    assert torch.equal(by_label[~wrong], by_prediction[~wrong])
    assert not torch.equal(by_prediction[wrong], logits[wrong])


def test_relative_readings_are_the_options() -> None:
    student, teacher = make_model(0), make_model(1)
    options = make_method("relative_kd", student, teacher).options
    for field in dataclasses.fields(ThesisReading):
        assert getattr(options, field.name) == field.default


def loop_moved(p: list[float], label: int, mass: str) -> list[float]:
    result = list(p)
    if max(range(len(p)), key=p.__getitem__) == label:
        return result
    for i in sorted((i for i in range(len(p)) if i != label), key=p.__getitem__):
        if result[label] > max(p):
            break
        result[label] += p[i]
        result[i] = p[i] if mass == "stays" else 0.0
    return result


@pytest.mark.parametrize("mass", ["moves", "stays"])
def test_earth_mover_is_its_loop(mass: str) -> None:
    logits, labels = teacher_batch()
    probs = F.softmax(logits / 2, dim=1)
    expected = torch.tensor(
        [loop_moved(p, y, mass) for p, y in zip(probs.tolist(), labels.tolist(), strict=True)],
        dtype=torch.float64,
    )
    found = moved_probabilities(probs, labels, mass)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    sums = found.sum(1)
    wrong = logits.argmax(1) != labels
    assert (found.argmax(1) == labels).all()
    assert ((sums - 1).abs() < 1e-12).all() if mass == "moves" else (sums[wrong] > 1).all()


def test_earth_mover_passes() -> None:
    logits, labels = teacher_batch()
    student = logits.flip(0)
    vanilla = vanilla_loss(student, logits, 2.0)
    unchanged = earth_mover_loss(student, logits, labels, 2.0, passes="unchanged_logits")
    moved = earth_mover_loss(student, logits, labels, 2.0)
    as_logits = earth_mover_loss(student, logits, labels, 2.0, passes="as_logits")
    assert torch.equal(unchanged, vanilla)
    assert len({x.item() for x in (unchanged, moved, as_logits)}) == 3


def test_two_temperatures_are_vanilla_on_each_part() -> None:
    logits, labels = teacher_batch()
    student = logits.flip(0)
    right = logits.argmax(1) == labels
    found = two_temperature_loss(student, logits, labels, 2.0, 10.0)
    parts = right.sum() * vanilla_loss(student[right], logits[right], 2.0)
    parts = parts + (~right).sum() * vanilla_loss(student[~right], logits[~right], 10.0)
    torch.testing.assert_close(found, parts / len(labels))


def test_vanilla_options() -> None:
    logits, _ = teacher_batch()
    student = logits.flip(0)
    plain = vanilla_loss(student, logits, 5.0, squared=False)
    torch.testing.assert_close(vanilla_loss(student, logits, 5.0), 25 * plain)
    base2 = vanilla_loss(student, logits, 5.0, squared=False, log_base="2")
    torch.testing.assert_close(base2 * math.log(2), plain)


@pytest.mark.parametrize(
    ("name", "alpha_on", "ce_weight"),
    [("vanilla_kd", "ce", 0.3), ("vanilla_kd", "kd", 0.7), ("spherical_kd", "kd", 0.7)],
)
def test_alpha_weights_the_term_it_is_on(name: str, alpha_on: str, ce_weight: float) -> None:
    student, teacher = make_model(0), make_model(1)
    step = make_step(student, teacher)
    full = make_method(name, student, teacher, alpha=1.0, alpha_on="kd")
    method = make_method(name, student, teacher, alpha=0.3, alpha_on=alpha_on)
    assert method.ce_weight == pytest.approx(ce_weight)
    torch.testing.assert_close(method.loss(step), (1 - ce_weight) * full.loss(step))


def test_spherical_logits_have_the_mean_teacher_norm() -> None:
    logits, labels = teacher_batch()
    student = 0.1 * logits.flip(0)
    radius = logits.norm(dim=1).mean()
    normalised = on_sphere(student, radius)
    torch.testing.assert_close(normalised.norm(dim=1), radius.expand(len(labels)))
    torch.testing.assert_close(
        spherical_loss(student, logits, 2.0),
        vanilla_loss(normalised, on_sphere(logits, radius), 2.0, squared=False),
    )
    plain = spherical_loss(student, logits, 2.0, norm="none")
    torch.testing.assert_close(plain, vanilla_loss(student, logits, 2.0, squared=False))
    squared = on_sphere(student, radius, "squared")
    torch.testing.assert_close(squared, normalised / student.norm(dim=1, keepdim=True))


def test_spherical_cross_entropy_replaces_the_plain_one() -> None:
    logits, labels = teacher_batch()
    student = logits.flip(0)
    student_model, teacher_model = make_model(0), make_model(1)
    options = {"alpha": 0.25, "ce_on": "normalised"}
    method = make_method("spherical_kd", student_model, teacher_model, **options)
    terms = method.loss(step_of_logits(student, logits, labels))
    assert isinstance(terms, dict)
    assert method.ce_weight == 0
    expected = 0.75 * spherical_cross_entropy(student, logits, labels)
    torch.testing.assert_close(terms["spherical_ce"], expected)
