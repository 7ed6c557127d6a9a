"""The loop's options on real runs: evaluations, plateaus, held-out images, upscaling, stops."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from benchmark.data.open import open_batches
from benchmark.models import build_model
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.train.evaluate import Accuracy, evaluate
from benchmark.train.optimiser import learning_rate
from tests.helpers import digits_plan, numbers, train

STUDENT = ["row=Student", "student=resnet8"]
FEW = ("recipe.schedule.milestones=[2]", "recipe.eval_every=1")


def student(data: Path, *sets: str, only: list[str] | None = None) -> Run:
    found = digits_plan(data, only or STUDENT, sets=[*FEW, *sets]).runs
    return found[-1]


def tensors(rundir: RunDir) -> dict[str, bytes]:
    """The network's numbers, without the name of its run."""
    found = load_file(rundir.weights)
    return {name: value.numpy().tobytes() for name, value in found.items()}


def trained(
    run: Run, data: Path, runs_dir: Path
) -> tuple[dict[str, Any], list[dict[str, Any]], RunDir]:
    assert train([run], data, runs_dir).endings == {run.key: "done"}
    rundir = RunDir(runs_dir, run.key)
    return rundir.read_result(), rundir.read_records(), rundir


def test_epochs_are_evaluated_at_the_interval_and_at_the_end(digits: Path, tmp_path: Path) -> None:
    run = student(digits, "recipe.epochs=9", "recipe.eval_every=2")
    result, records, _ = trained(run, digits, tmp_path)
    assert [r["epoch"] for r in records] == list(range(1, 10))
    evaluated = {r["epoch"]: r for r in records if "test_top1" in r}
    assert list(evaluated) == [2, 4, 5, 6, 7, 8, 9]
    for metric in ("top1", "top5"):
        last = [evaluated[epoch][f"test_{metric}"] for epoch in (5, 6, 7, 8, 9)]
        best = max(evaluated, key=lambda epoch: (evaluated[epoch][f"test_{metric}"], -epoch))
        assert result["metrics"][metric] == {
            "last": last[-1],
            "best": evaluated[best][f"test_{metric}"],
            "best_epoch": best,
            "median_of_last_5": statistics.median(last),
            "mean_of_last_5": pytest.approx(statistics.fmean(last)),
            "last_5": last,
        }
    assert result["epochs"] == 9
    assert result["val_top1"] is None
    rate = run.recipe.lr
    assert [r["lr"] for r in records[:4]] == pytest.approx([rate, rate, rate / 10, rate / 10])


@pytest.mark.slow
def test_the_interval_does_not_change_what_is_trained(digits: Path, tmp_path: Path) -> None:
    often, seldom = (
        trained(student(digits, "recipe.epochs=7", f"recipe.eval_every={n}"), digits, tmp_path)
        for n in (1, 7)
    )
    assert often[0]["metrics"]["top1"]["last_5"] == seldom[0]["metrics"]["top1"]["last_5"]
    assert tensors(often[2]) == tensors(seldom[2])


def test_what_is_reported_is_the_accuracy_of_what_is_kept(digits: Path, tmp_path: Path) -> None:
    run = student(digits, "recipe.epochs=2", "recipe.input_size=16", "recipe.eval_every=2")
    result, records, rundir = trained(run, digits, tmp_path)
    model = build_model("resnet8", 10)
    model.load_state_dict(load_file(rundir.weights))
    model.eval()
    batches = open_batches(
        "digits", digits, seed=0, batch_size=20, augmentation="none", channels_last=False
    )

    def at(size: int) -> Accuracy:
        def predict(images: torch.Tensor) -> torch.Tensor:
            shape = (size, size)
            scaled = F.interpolate(images, size=shape, mode="bilinear", align_corners=False)
            return model(scaled)  # type: ignore[no-any-return]

        return evaluate([predict], batches.test(run.recipe.eval_batch))[0]

    found = at(16)
    assert found.top1 == result["metrics"]["top1"]["last"]
    assert found.top5 == result["metrics"]["top5"]["last"]
    assert found.loss == pytest.approx(records[-1]["test_loss"], abs=1e-6)
    assert found.images == 1697
    assert at(8).top1 != found.top1  # the images were upscaled where they were evaluated


def test_upscaling_changes_what_is_trained(digits: Path, tmp_path: Path) -> None:
    runs = [student(digits, "recipe.epochs=1", f"recipe.input_size={n}") for n in (8, 16)]
    plain = student(digits, "recipe.epochs=1")
    weights = [tensors(trained(run, digits, tmp_path)[2]) for run in (plain, *runs)]
    assert weights[0] == weights[1]
    assert weights[1] != weights[2]


HOLDOUT = ("recipe.holdout=40", "recipe.epochs=4")


def test_held_out_images_are_validated_on(digits: Path, tmp_path: Path) -> None:
    result, records, _ = trained(student(digits, *HOLDOUT), digits, tmp_path)
    assert [r["val_top1"] % 2.5 for r in records] == [0.0] * 4  # of 40 images
    assert result["val_top1"] == records[-1]["val_top1"]
    assert {r["val_top1"] for r in records} != {r["test_top1"] for r in records}
    whole = trained(student(digits, "recipe.epochs=4"), digits, tmp_path)[1]
    # 60 images in 3 steps against 100 in 5: training accuracy is a multiple of another share.
    correct = [r["train_top1"] * 0.6 for r in records]
    assert correct == pytest.approx([round(number) for number in correct], abs=1e-9)
    assert all("val_top1" in r and r["val_top1"] is None for r in whole)


PLATEAU = "recipe.schedule={kind: plateau, patience: 1, stop_patience: 2}"


def test_a_plateau_follows_the_held_out_images_and_ends_early(digits: Path, tmp_path: Path) -> None:
    run = digits_plan(
        digits, STUDENT, sets=[*HOLDOUT, PLATEAU, "recipe.epochs=30", "recipe.eval_every=1"]
    ).runs[0]
    result, records, _ = trained(run, digits, tmp_path)
    accuracies = [r["val_top1"] for r in records]
    for number, record in enumerate(records):
        rate = learning_rate(run.recipe, number + 1, accuracies[:number])
        assert record["lr"] == pytest.approx(rate)
    best = accuracies.index(max(accuracies))
    assert len(records) == best + 1 + 2 < 30
    assert result["epochs"] == len(records)
    assert result["metrics"]["top1"]["last_5"] == [r["test_top1"] for r in records[-5:]]
    assert records[-1]["lr"] < run.recipe.lr


@pytest.mark.slow
def test_a_run_that_ends_early_leaves_its_neighbours_training(digits: Path, tmp_path: Path) -> None:
    # At this rate it gets no better for two epochs soon enough.
    fast = ["recipe.lr=0.05", "recipe.epochs=12", "recipe.eval_every=1"]
    short = digits_plan(digits, STUDENT, sets=[PLATEAU, *fast]).runs[0]
    long = student(digits, "recipe.epochs=12")
    shorter = student(digits, "recipe.epochs=2")
    together = tmp_path / "together"
    outcome = train([short, long, shorter], digits, together)
    assert set(outcome.endings.values()) == {"done"}
    assert len(RunDir(together, short.key).read_records()) < 12
    assert len(RunDir(together, long.key).read_records()) == 12
    for run in (short, long, shorter):
        trained(run, digits, tmp_path)
        assert numbers(together, run) == numbers(tmp_path, run)
    packed = [r["packed"] for r in RunDir(together, long.key).read_records()]
    assert (packed[0], packed[-1]) == (3, 1)


@pytest.mark.slow
def test_an_early_end_survives_an_interruption(digits: Path, tmp_path: Path) -> None:
    sets = [*HOLDOUT, PLATEAU, "recipe.epochs=30", "recipe.eval_every=1"]
    (run,) = digits_plan(digits, STUDENT, sets=sets).runs
    trained(run, digits, tmp_path)
    stopped = tmp_path / "stopped"
    for ticks in (11, 20, 31):
        calls = iter(range(1000))
        train([run], digits, stopped, stop=lambda c=calls, n=ticks: "" if next(c) == n else None)
    train([run], digits, stopped)
    assert numbers(stopped, run) == numbers(tmp_path, run)


def test_the_last_batch_may_be_dropped(digits: Path, tmp_path: Path) -> None:
    kept, dropped = (
        trained(
            student(digits, "recipe.epochs=1", "recipe.batch_size=40", f"recipe.drop_last={d}"),
            digits,
            tmp_path,
        )
        for d in ("false", "true")
    )
    # Shares of 100 and of 80 images.
    assert (kept[1][0]["train_top1"] * 1.0) % 1 == pytest.approx(0, abs=1e-9)
    assert (dropped[1][0]["train_top1"] * 0.8) % 1 == pytest.approx(0, abs=1e-9)
    assert tensors(kept[2]) != tensors(dropped[2])


@pytest.mark.slow
@pytest.mark.parametrize(
    "sets",
    [
        ("recipe.optimizer=adamw", "recipe.lr=0.001"),
        ("recipe.nesterov=true",),
        ("recipe.clip_norm=0.1",),
        ("recipe.precision=bf16",),
        ("recipe.channels_last=true",),
        ("recipe.schedule={kind: cosine, warmup_epochs: 1, warmup_lr: 0.001}",),
    ],
)
def test_every_way_to_step_survives_an_interruption(
    digits: Path, tmp_path: Path, sets: tuple[str, ...]
) -> None:
    (run,) = digits_plan(
        digits, STUDENT, sets=["recipe.epochs=2", "recipe.eval_every=2", *sets]
    ).runs
    trained(run, digits, tmp_path)
    (plain,) = digits_plan(digits, STUDENT, sets=["recipe.epochs=2", "recipe.eval_every=2"]).runs
    if "recipe.channels_last=true" not in sets:  # which may well round alike
        trained(plain, digits, tmp_path)
        assert numbers(tmp_path, run)["weights"] != numbers(tmp_path, plain)["weights"]
    stopped = tmp_path / "stopped"
    calls = iter(range(1000))
    train([run], digits, stopped, stop=lambda: "asked to" if next(calls) == 6 else None)
    train([run], digits, stopped)
    assert numbers(stopped, run) == numbers(tmp_path, run)
