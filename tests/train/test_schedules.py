"""Learning rates: where drops apply, plateaus, warm-up."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Literal

import pytest
import torch

from benchmark.methods._self_losses import teacher_epoch
from benchmark.methods.options import Planned
from benchmark.methods.snapshot import Options
from benchmark.table.recipe import Cosine, Milestones, Plateau, Recipe, named_recipe, override
from benchmark.train.optimiser import build_optimizer, drops_after, ends_early, learning_rate
from tests.golden_imagenet import archive, tensors
from tests.methods import golden_online

GOLDEN_IMAGENET = (
    "schedules:deit",
    "schedules:timm",
    "schedules:per_iteration",
    "schedules:mmcls_deit",
    "schedules:funmatch",
    "schedules:step",
)


def with_schedule(schedule: Milestones | Plateau | Cosine, epochs: int = 20) -> Recipe:
    recipe = named_recipe("crd_240")
    return recipe.model_copy(update={"schedule": schedule, "epochs": epochs, "lr": 0.1})


def test_crds_drops_apply_from_epochs_151_181_and_211() -> None:
    recipe = named_recipe("crd_240")
    rates = {epoch: learning_rate(recipe, epoch, []) for epoch in range(1, 241)}
    assert rates[1] == rates[150] == 0.05
    assert rates[151] == rates[180] == pytest.approx(0.005)
    assert rates[181] == rates[210] == pytest.approx(0.0005)
    assert rates[211] == rates[240] == pytest.approx(0.00005)
    assert [e for e in range(1, 241) if drops_after(recipe, e, [], [])] == [150, 180, 210]


def test_the_thesis_divides_by_five() -> None:
    recipe = named_recipe("thesis_200")
    rates = [learning_rate(recipe, epoch, []) for epoch in (60, 61, 120, 121, 160, 161)]
    assert rates == pytest.approx([0.1, 0.02, 0.02, 0.004, 0.004, 0.0008])


# Accuracies after each evaluation, and the rate of the epoch that follows it.
PLATEAU = [
    ([], 0.1),
    ([10.0], 0.1),
    ([10.0, 9.0], 0.1),
    ([10.0, 9.0, 10.0], 0.05),  # twice no better: equal is not better
    ([10.0, 9.0, 10.0, 9.0], 0.05),  # the count began anew
    ([10.0, 9.0, 10.0, 9.0, 9.0], 0.025),
    ([10.0, 9.0, 10.0, 9.0, 11.0], 0.05),
    ([10.0, 11.0, 12.0, 13.0], 0.1),
]


@pytest.mark.parametrize(("accuracies", "rate"), PLATEAU)
def test_a_plateau_halves_the_rate(accuracies: list[float], rate: float) -> None:
    recipe = with_schedule(Plateau(kind="plateau", patience=2))
    assert learning_rate(recipe, len(accuracies) + 1, accuracies) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("accuracies", "ends"),
    [
        ([], False),
        ([10.0], False),
        ([10.0, 9.0, 9.0], False),
        ([10.0, 9.0, 9.0, 10.0], True),  # three without a better one
        ([10.0, 9.0, 9.0, 10.1], False),
        ([10.0, 9.0, 9.0, 10.1, 9.0, 9.0], False),
        ([10.0, 9.0, 9.0, 10.1, 9.0, 9.0, 9.0], True),
    ],
)
def test_a_plateau_ends_a_run(accuracies: list[float], ends: bool) -> None:
    assert ends_early(with_schedule(Plateau(kind="plateau")), accuracies) is ends
    endless = with_schedule(Plateau(kind="plateau", stop_patience=None))
    assert not ends_early(endless, accuracies)
    assert not ends_early(with_schedule(Milestones(milestones=(1,))), accuracies)


def test_the_drop_of_a_plateau_is_noticed_once() -> None:
    recipe = with_schedule(Plateau(kind="plateau", patience=2))
    history = [10.0, 9.0, 9.0, 8.0, 8.0, 8.0]
    drops = [
        epoch
        for epoch in range(1, len(history) + 1)
        if drops_after(recipe, epoch, history[: epoch - 1], history[:epoch])
    ]
    assert drops == [3, 5]
    # An epoch without an evaluation changes nothing.
    assert not drops_after(recipe, 4, history[:3], history[:3])


def test_a_cosine_warms_up_and_ends_near_its_least() -> None:
    schedule = Cosine(kind="cosine", warmup_epochs=5, warmup_lr=0.0, min_lr=0.01)
    recipe = with_schedule(schedule, epochs=25)
    rates = [learning_rate(recipe, epoch, []) for epoch in range(1, 27)]
    assert rates[:6] == pytest.approx([0.0, 0.02, 0.04, 0.06, 0.08, 0.1])
    assert rates[15] == pytest.approx((0.1 + 0.01) / 2)  # half way
    assert rates[25] == pytest.approx(0.01)
    assert all(a > b for a, b in itertools.pairwise(rates[5:]))
    assert not any(drops_after(recipe, epoch, [], []) for epoch in range(1, 25))
    assert math.isclose(rates[10], 0.01 + 0.09 * (1 + math.cos(math.pi / 4)) / 2)


def cosine(epochs: int, lr: float, **fields: object) -> Recipe:
    schedule = {"kind": "cosine", **fields}
    recipe = {"epochs": epochs, "lr": lr, "schedule": schedule, "optimizer": "adamw"}
    return override(named_recipe("imagenet_100"), recipe)


TIMM = {"warmup_epochs": 5, "warmup_lr": 1e-6, "min_lr": 1e-5}


def test_cosines_per_epoch_are_timms_and_deits(fixtures: Path) -> None:
    expected = archive(fixtures, "schedules")
    within = cosine(300, 1e-3, **TIMM, warmup="within")
    for t, rate in enumerate(expected["timm/value_at_t"]):
        assert learning_rate(within, t + 1, []) == pytest.approx(rate, rel=1e-12)
    for index, rate in enumerate(expected["timm/used"]):
        assert learning_rate(within, index + 1, []) == pytest.approx(rate, rel=1e-12)
    before = cosine(305, 1e-3, **TIMM)
    for t, rate in enumerate(expected["timm/warmup_prefix_value_at_t"]):
        assert learning_rate(before, t + 1, []) == pytest.approx(rate, rel=1e-12)
    late = cosine(300, 1e-3, **TIMM, warmup="within", late=1)
    for index, rate in enumerate(expected["deit/used"]):
        assert learning_rate(late, index + 1, []) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize("run", ["projector_256", "projector_512", "civt_8x128"])
def test_cosines_per_iteration_are_the_projectors_and_civts(run: str, fixtures: Path) -> None:
    expected = tensors(fixtures, "schedules", f"per_iteration/{run}")
    steps, lr, warmup_lr, min_lr, warmup, total = expected["constants"].tolist()
    recipe = cosine(
        int(total / steps),
        lr,
        warmup_epochs=int(warmup / steps),
        warmup_lr=warmup_lr,
        min_lr=min_lr,
        per="iteration",
        warmup="within",
        late=1,
    )
    for iteration, rate in expected["used"].tolist():
        epoch, step = divmod(int(iteration), int(steps))
        found = learning_rate(recipe, epoch + 1, [], step, int(steps))
        assert found == pytest.approx(rate, rel=1e-12)


def test_the_cosine_of_mmpretrain_has_a_warmup_of_its_own(fixtures: Path) -> None:
    expected = tensors(fixtures, "schedules", "mmcls_deit")
    steps = int(expected["iterations_per_epoch"])
    recipe = cosine(
        300,
        1e-3,
        warmup_epochs=20,
        warmup_lr=1e-6,
        min_lr=1e-5,
        warmup_per="iteration",
        warmup_closed=True,
    )
    for index, rate in enumerate(expected["epoch_start"].tolist()):
        assert learning_rate(recipe, index + 1, [], 0, steps) == pytest.approx(rate, rel=1e-9)
    for iteration, rate in expected["iteration_rows"].tolist():
        epoch, step = divmod(int(iteration), steps)
        assert learning_rate(recipe, epoch + 1, [], step, steps) == pytest.approx(rate, rel=1e-9)


@pytest.mark.parametrize("epochs", ["300", "1200", "9600"])
def test_funmatchs_cosine_starts_after_5000_steps(epochs: str, fixtures: Path) -> None:
    expected = tensors(fixtures, "schedules", f"funmatch/{epochs}")
    steps = int(expected["total_steps"])
    recipe = cosine(1, 0.03, warmup_steps=5000, per="iteration")
    for step, multiplier in expected["multiplier"].tolist():
        found = learning_rate(recipe, 1, [], int(step), steps) / 0.03
        assert found == pytest.approx(multiplier, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(
    ("run", "lr", "milestones"),
    [
        ("mdistiller_512", 0.2, (30, 60, 90)),
        ("torchvision_256", 0.1, (30, 60, 90)),
        ("ofd_official", 0.1, (29, 59, 89)),  # one epoch earlier than all others
    ],
)
def test_the_steps_of_imagenet(
    run: str, lr: float, milestones: tuple[int, ...], fixtures: Path
) -> None:
    recipe = override(
        named_recipe("imagenet_100"), {"lr": lr, "schedule": {"milestones": milestones}}
    )
    for index, rate in enumerate(archive(fixtures, "schedules")[f"step/{run}"]):
        assert learning_rate(recipe, index + 1, []) == pytest.approx(rate, rel=1e-12)


GOLDEN_ONLINE = (
    "snapshot_schedule_even",
    "snapshot_schedule_uneven",
    "snapshot_epochs_200_4",
    "snapshot_epochs_240_4",
    "snapshot_epochs_300_4",
    "snapshot_epochs_200_3",
)


def cycles(epochs: int, count: int, per: Literal["epoch", "iteration"]) -> Recipe:
    return with_schedule(Cosine(kind="cosine", per=per, cycles=count), epochs)


@pytest.mark.parametrize(("name", "epochs", "steps"), [("even", 8, 5), ("uneven", 9, 7)])
def test_cycles_by_step(name: str, epochs: int, steps: int) -> None:
    """What is left over after the last whole cycle begins one more."""
    expected = golden_online.case(f"snapshot_schedule_{name}")["out/lr"]
    recipe = cycles(epochs, 4, "iteration")
    ours = [
        learning_rate(recipe, epoch, [], step, steps)
        for epoch in range(1, epochs + 1)
        for step in range(steps)
    ]
    assert ours == pytest.approx(expected.tolist(), abs=1e-12)


def test_the_copy_that_teaches_a_step() -> None:
    """Of the uneven case nothing does: its cycles end within epochs, which Snapshot refuses."""
    arrays, steps = golden_online.case("snapshot_schedule_even"), 5
    taught = [teacher_epoch(epoch, 8, 4) for epoch in range(1, 9) for _ in range(steps)]
    assert [steps * epoch - 1 for epoch in taught] == arrays["out/teacher_step"].tolist()
    assert [epoch // (8 // 4) for epoch in taught] == arrays["out/cycle"].tolist()
    nine = Planned("resnet8", 3, "", 9, 64, 0, 32, 10, teacher=False, rate_cycles=4)
    assert "do not divide 9 epochs" in str(Options().refuse(nine))


def test_zero_shot_rates_step_by_step() -> None:
    """The ninth rate of the case, 0, is that of no step: training is over."""
    expected = golden_online.case("zskt_generator_net")["out/schedule_lr"].tolist()
    recipe = with_schedule(Cosine(kind="cosine", per="iteration"), 2)
    ours = [learning_rate(recipe, 1 + i // 4, [], i % 4, 4) / recipe.lr for i in range(8)]
    assert ours == pytest.approx(expected[:8], abs=1e-12)
    assert expected[8:] == [pytest.approx(0.0, abs=1e-12)]


@pytest.mark.parametrize(("epochs", "count"), [(200, 4), (240, 4), (300, 4), (200, 3)])
def test_cycles_by_epoch(epochs: int, count: int) -> None:
    arrays = golden_online.case(f"snapshot_epochs_{epochs}_{count}")
    recipe = cycles(epochs, count, "epoch")
    ours = [learning_rate(recipe, epoch, []) for epoch in range(1, epochs + 1)]
    assert ours == pytest.approx(arrays["out/lr"].tolist(), abs=1e-12)
    taught = [teacher_epoch(epoch, epochs, count) for epoch in range(1, epochs + 1)]
    assert taught == arrays["out/teacher_epoch"].tolist()


def test_cycles_go_alone() -> None:
    with pytest.raises(ValueError, match="cycles go without a warm-up"):
        Cosine(kind="cosine", cycles=2, warmup_epochs=1)


def test_a_warmup_before_milestones() -> None:
    recipe = named_recipe("self_200")
    rates = [learning_rate(recipe, 1, [], step, 4) for step in range(4)]
    assert rates == pytest.approx([0.005, 0.01, 0.015, 0.02])
    assert learning_rate(recipe, 5, [], 3, 4) == learning_rate(recipe, 6, []) == 0.1
    assert learning_rate(recipe, 101, []) == pytest.approx(0.01)
    assert [e for e in range(1, 201) if drops_after(recipe, e, [], [])] == [100, 150]


def test_milestones_without_a_warmup_are_written_as_before() -> None:
    assert "warmup_epochs" not in named_recipe("crd_240").model_dump(mode="json")["schedule"]
    assert "warmup_epochs" in named_recipe("self_200").model_dump(mode="json")["schedule"]
    assert "cycles" not in Cosine(kind="cosine").model_dump(mode="json")


def test_adam_is_adam() -> None:
    recipe = override(named_recipe("crd_240"), {"optimizer": "adam", "lr": 0.002})
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    reference = torch.nn.Parameter(parameter.detach().clone())
    ours = build_optimizer(recipe, [parameter])
    theirs = torch.optim.Adam([reference], lr=0.002, weight_decay=recipe.weight_decay)
    for optimizer, p in ((ours, parameter), (theirs, reference)):
        for _ in range(3):
            p.grad = p.detach() ** 2
            optimizer.step()
    torch.testing.assert_close(parameter, reference)
