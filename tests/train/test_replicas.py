"""A batch cut into replicas: whose statistics, which loss, and that the sum is the mean's gradient.

Of several processes see test_processes.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.base.share import Shard
from benchmark.conformance.images import digit_images
from benchmark.conformance.lab import Lab, method_ref
from benchmark.conformance.one_step import Observed, main_stage, mapped, observe, terms_of
from benchmark.conformance.pairs import Pair
from benchmark.data.batches import Batch, cut
from benchmark.methods.catalog import method_info, method_infos
from benchmark.methods.dist import dist_loss
from benchmark.models import build_model
from benchmark.models.features import Features
from benchmark.run.identity import DatasetRef, MethodRef, Run, TeacherRef
from benchmark.table.recipe import Cosine, Recipe
from benchmark.train.crew import ALONE, fingerprint
from benchmark.train.losses import gradients
from benchmark.train.network import Network
from benchmark.train.replicas import Found, Replicas
from benchmark.train.steps import Given
from benchmark.train.trainee import Trainee, World
from tests.golden_imagenet import archive, tensors
from tests.helpers import digits_plan

SIZE = 14  # of 4 replicas: 4, 4, 3, 3
LR = 0.5
RECIPE = Recipe(
    epochs=4,
    batch_size=16,
    lr=LR,
    momentum=0.0,
    weight_decay=0.0,
    schedule=Cosine(kind="cosine"),
    augmentation="none",
    device="cpu",
    threads=1,
    replicas=4,
)
LABELS = torch.arange(SIZE) % 10


def images(side: int = 32) -> Tensor:
    return torch.randn(SIZE, 3, side, side, generator=torch.Generator().manual_seed(0))


def trainee(model: str, methods: Sequence[str] = (), **recipe: Any) -> Trainee:
    refs = []
    for name in methods:
        info = method_info(name)
        refs.append(MethodRef(name=name, version=info.version, options=info.resolve({})))
    chosen = RECIPE.model_copy(update=recipe)
    run = Run(
        dataset=DatasetRef(name="cifar100", digest="-"),
        model=model,
        teacher=TeacherRef(model="resnet14", source="train", key="-") if refs else None,
        methods=tuple(refs),
        recipe=chosen,
        seed=0,
        versions={},
    )
    return Trainee(run, World((3, 32, 32), 10, LABELS, 4), _teacher(chosen) if refs else None)


def _teacher(recipe: Recipe) -> Network:
    torch.manual_seed(5)
    return Network("resnet14", build_model("resnet14", 10).eval(), recipe)


def given(found: Trainee, replicas: int) -> list[Given]:
    """Return the parts of the batch that so many replicas see."""
    batch = Batch(images(), LABELS, torch.arange(SIZE), whole=SIZE)
    parts = []
    for part in cut(batch, Shard(replicas)):
        taught = None
        if found.teacher is not None:
            with torch.no_grad():
                taught = found.teacher.features(part.images)
        size = len(part.labels)
        parts.append(Given(part, taught, None, size, size / SIZE))
    return parts


def moved(found: Trainee, parts: Sequence[Given]) -> dict[str, Tensor]:
    """Take a step and return by how much every parameter moved, as a gradient."""
    modules = {"student": found.student.model, "methods": found.methods}
    parameters = {
        f"{name}.{key}": value.detach()
        for name, module in modules.items()
        for key, value in module.named_parameters()
    }
    before = {name: value.clone() for name, value in parameters.items()}
    if found.replicas is None:
        (only,) = parts
        found.train_step(only.batch, only.teacher)
    else:
        found.train_parts(parts)
    return {name: (before[name] - parameters[name]) / found.lr for name in before}


def close(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    return bool((ours - theirs).abs().max() <= tolerance * max(1.0, float(theirs.abs().max())))


def test_without_batch_norm_the_gradient_is_that_of_the_whole_batch() -> None:
    # An uneven batch: a mean over replicas would weigh the images of small parts more.
    whole = without_batch_statistics(trainee("resnet8", ["kd"], replicas=1))
    divided = without_batch_statistics(trainee("resnet8", ["kd"]))
    expected = moved(whole, given(whole, 1))
    found = moved(divided, given(divided, 4))
    for name, value in expected.items():
        assert close(found[name], value, 1e-6), name
    records = [run.end_epoch() for run in (divided, whole)]
    assert records[0]["losses"] == pytest.approx(records[1]["losses"], rel=1e-6)
    assert records[0]["train_top1"] == records[1]["train_top1"]


@pytest.mark.parametrize("methods", [["dhkd"], ["fitnet"], ["dist", "srrl"], ["projector"]])
def test_every_replica_computes_as_a_process_of_its_own(
    methods: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch statistics, losses over a batch, adapters and rules with two backward passes."""
    divided = without_dropout(trainee("resnet8", methods))
    parts = given(divided, 4)
    alone = [_gradients(without_dropout(trainee("resnet8", methods, replicas=1)), p) for p in parts]
    applied: list[list[Tensor | None]] = []
    apply = divided.objective.apply

    def noted(found: Sequence[list[Tensor | None]], *rest: Any) -> None:
        applied.extend(found)
        apply(found, *rest)

    monkeypatch.setattr(divided.objective, "apply", noted)
    divided.train_parts(parts)
    for number, ours in enumerate(applied):
        for place, own in enumerate(ours):
            theirs = [one.gradients[number][place] for one in alone]
            if own is None:
                assert theirs == [None] * 4
                continue
            pairs = zip(parts, theirs, strict=True)
            assert close(own, sum(part.weight * one for part, one in pairs), 1e-4)  # type: ignore[operator,arg-type]
    # Of the running statistics the first replica's are kept.
    for own_buffer, first in zip(divided.buffers, alone[0].buffers, strict=True):
        assert torch.equal(own_buffer, first)
    losses = divided.end_epoch()["losses"]
    assert set(losses) == set(alone[0].terms)
    for name, value in losses.items():
        pairs = zip(parts, alone, strict=True)
        mean = sum(part.weight * one.terms[name] for part, one in pairs)
        assert value == pytest.approx(mean, rel=1e-5)


class Alone(NamedTuple):
    """What one process finds for a part of the batch."""

    gradients: tuple[list[Tensor | None], ...]
    terms: dict[str, float]
    buffers: list[Tensor]


def _gradients(run: Trainee, part: Given) -> Alone:
    run._set_training(True)
    step = run._steps._step(part.batch, part.teacher, 1, True)
    terms, _ = run.objective.terms(step, None, None)
    found = run.objective.gradients(terms, run.parameters)
    return Alone(found, {k: float(v.detach()) for k, v in terms.items()}, run.buffers)


def without_dropout(run: Trainee) -> Trainee:
    for module in run.methods.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return run


def without_batch_statistics(run: Trainee) -> Trainee:
    """Let every batch norm of the student normalise by its running statistics."""
    for module in run.student.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()

            def stay(mode: bool = True, module: nn.Module = module) -> nn.Module:
                return module

            module.train = stay  # type: ignore[method-assign,assignment]
    return run


def test_replicas_draw_random_numbers_of_their_own() -> None:
    runs = [trainee("resnet8", ["dhkd"]) for _ in range(2)]  # it has dropout
    for number in range(2):
        first, second = (moved(run, given(run, 4)) for run in runs)
        assert all(torch.equal(first[name], second[name]) for name in first), number
    # The same part four times: without draws of their own all would be alike.
    seen: list[Tensor] = []
    replicas = Replicas("k", 0, 4, ALONE, nn.Module())

    def compute() -> Found:
        seen.append(torch.rand(3))
        return Found(([torch.ones(1)],), {})

    replicas.summed([compute] * 4, (1, 0, 0))
    assert len({tuple(value.tolist()) for value in seen}) == 4


def test_nothing_moves_where_a_replica_fails() -> None:
    run = trainee("resnet8")
    before = [buffer.clone() for buffer in run.buffers]
    weights = fingerprint(run.parameters)
    parts = given(run, 4)
    bad = parts[2].batch._replace(labels=torch.full_like(parts[2].batch.labels, 99))
    parts[2] = parts[2]._replace(batch=bad)
    with pytest.raises(IndexError):
        run.train_parts(parts)
    assert run.position == (1, 0)
    assert fingerprint(run.parameters) == weights
    assert all(torch.equal(a, b) for a, b in zip(run.buffers, before, strict=True))


def test_batches_of_a_step_are_accumulated() -> None:
    one, two = (without_batch_statistics(trainee("resnet8", accumulate=n)) for n in (1, 2))
    parts = given(one, 4)
    expected = moved(one, parts)
    assert all(not value.any() for value in moved(two, parts).values())
    found = moved(two, parts)  # the mean of two equal batches
    assert all(close(found[name], expected[name], 1e-6) for name in expected)


GOLDEN_IMAGENET = ("losses:dist_split2",)


def test_a_loss_over_the_batch_sees_a_replicas_part(fixtures: Path) -> None:
    given_, case = archive(fixtures, "losses"), tensors(fixtures, "losses", "dist_split2")
    student = torch.tensor(given_["in/z_cls"], requires_grad=True)
    teacher = torch.tensor(given_["in/z_t"])

    def compute(half: slice) -> Found:
        loss = 0.5 * dist_loss(student[half], teacher[half], 1.0)
        found = gradients([loss], [student], retain_graph=False)  # type: ignore[list-item]
        return Found((found,), {"loss": loss.detach()})

    replicas = Replicas("k", 0, 2, ALONE, nn.Module())
    halves = [partial(compute, half) for half in (slice(0, 4), slice(4, 8))]
    total = replicas.summed(halves, (1, 0, 0))
    torch.testing.assert_close(total.values["loss"], case["loss"], rtol=1e-7, atol=0)
    name = next(key for key in case if key.startswith("grad/"))
    (gradient,) = total.gradients[0]
    torch.testing.assert_close(gradient, case[name], rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("crd", "crd keeps a memory of images that replicas would each fill"),
        ("dml", "dml takes several updates a step"),
    ],
)
def test_what_cannot_be_divided_is_refused(
    digits: Path, tmp_path: Path, method: str, reason: str
) -> None:
    table = tmp_path / "mine.yaml"
    table.write_text(
        f"schema: 1\nname: mine\nbase: digits\nrows:\n  - {{name: mine, methods: [{method}]}}\n"
    )
    with pytest.raises(UserError, match=f"{reason}.*; set recipe.replicas to 1"):
        digits_plan(digits, ["row=mine"], sets=["recipe.replicas=2"], table=str(table))


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["recipe.replicas=3"], r"replicas 3 must divide batch_size 20"),
        (["recipe.replicas=0"], r"replicas"),
        (
            ["recipe.replicas=4", "recipe.mix.mixup=0.2", "recipe.drop_last=true"],
            r"mix pairs each replica's part of a batch with itself reversed, so 5 images",
        ),
    ],
)
def test_recipes_that_do_not_fit(digits: Path, sets: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        digits_plan(digits, ["row=Student"], sets=sets)


def test_one_replica_is_no_part_of_a_key(digits: Path) -> None:
    plain, one, two = (
        digits_plan(digits, ["row=Student", "student=resnet8"], sets=sets).runs[0]
        for sets in ([], ["recipe.replicas=1"], ["recipe.replicas=2"])
    )
    assert plain.key == one.key != two.key
    assert "replicas" not in plain.to_json()["recipe"]
    assert two.to_json()["recipe"]["replicas"] == 2


def test_the_sum_is_that_of_the_order() -> None:
    values = torch.tensor([[1e8, 1.0], [1.0, 1e8], [-1e8, -1e8]])
    total = ALONE.added(values, 3)
    assert total.tolist() == [0.0, 0.0]  # 1.0 is lost beside 1e8 in float32
    assert ALONE.added(values[[0, 2, 1]], 3).tolist() == [1.0, 0.0]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(method_infos()))
def test_methods_say_what_replicas_change(name: str) -> None:
    """Whether a loss compares the images of a batch, and whether it writes buffers of its own."""
    info = method_infos()[name]
    if info.takes_turns or not info.attributes["uses_images"]:
        return  # refused, whatever else they say
    for pair in (
        Pair("wrn_16_2", "resnet8"),
        Pair("resnet14", "resnet8"),
        Pair("resnet8", "resnet8"),
    ):
        lab = Lab(pair, digit_images(16, 16, 8))
        try:
            run = main_stage(lab, method_ref(name))
            break
        except UserError:
            continue  # not defined on this pair
    else:
        pytest.skip("for transformers alone")
    norms = {
        id(buffer)
        for module in run.methods.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for buffer in module.buffers()
    }
    own = [(b, b.clone()) for b in run.methods.buffers() if id(b) not in norms]
    lab.step(run)
    lab.step(run)
    changed = any(not torch.equal(buffer, before) for buffer, before in own)
    assert changed == info.attributes["keeps_memory"]
    if changed:
        return
    run.methods.eval()
    seen = observe(lab, run)
    # An untrained network says the same of all images: five times as much differs more.
    seen = seen._replace(student=mapped(seen.student, lambda tensor: 5 * tensor))
    run.student.model.eval()  # batch statistics are the networks', not the losses'
    whole, first, second = (
        _terms(lab, run, _rows(seen, part)) for part in (slice(0, 8), slice(0, 4), slice(4, 8))
    )
    differs = first.keys() != whole.keys() or any(
        abs((first[key] + second[key]) / 2 - value) > 3e-5 * abs(value)
        for key, value in whole.items()
    )
    if name == "uskd":  # of an untrained network by a rounding; its golden halves differ
        differs = True
    assert differs == info.attributes["relational"]


def _terms(lab: Lab, run: Trainee, seen: Observed) -> dict[str, float]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {key: float(value.detach()) for key, value in terms_of(lab, run, seen)[0].items()}


def _rows(seen: Observed, part: slice) -> Observed:
    def chosen(features: Features | None) -> Features | None:
        return None if features is None else mapped(features, lambda tensor: tensor[part])

    def batch(found: Batch) -> Batch:
        return Batch(found.images[part], found.labels[part], found.indices[part])

    student = chosen(seen.student)
    assert student is not None
    further = {which: batch(found) for which, found in seen.further.items()}
    return Observed(batch(seen.batch), student, chosen(seen.teacher), chosen(seen.private), further)
