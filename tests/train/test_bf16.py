"""bfloat16 costs no accuracy that seeds would show, and goes with float32 in one run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scipy import stats

from benchmark.conformance.images import digit_images
from benchmark.conformance.lab import Lab, method_ref
from benchmark.conformance.pairs import Pair
from benchmark.data.write import write_dataset
from benchmark.methods.catalog import method_infos
from benchmark.planning.matrix import Context, make_plan
from benchmark.run.directory import RunDir
from benchmark.table.load import load_table
from benchmark.table.recipe import ModelSettings
from benchmark.table.selection import parse_selection
from benchmark.train.network import Network
from tests.helpers import train_plan

CIFAR = """
schema: 1
name: small
title: A small pair on CIFAR-100
source: {paper: "None"}
dataset: cifar100
recipe: crd_240
recipe_overrides: {epochs: 4, schedule: {milestones: [3]}, threads: 1}
protocol: {report: last}
teacher: {from: train, seed: fixed}
seeds: [0, 1, 2]
columns: [{teacher: resnet14, student: resnet8}]
rows: [{name: KD, methods: [kd]}]
"""


def accuracies(
    table: str, only: list[str], seeds: str, sets: list[str], data: Path, runs_dir: Path
) -> list[float]:
    plan = make_plan(load_table(table), parse_selection(only, seeds, sets), Context(data, "cpu"))
    train_plan(plan, data, runs_dir)
    students = [run for run in plan.runs if run.teacher is not None]
    results = [RunDir(runs_dir, run.key).read_result() for run in students]
    assert not any(result["diverged"] for result in results)
    return [result["metrics"]["top1"]["last"] for result in results]


def assert_no_loss(fp32: list[float], bf16: list[float]) -> None:
    found = stats.ttest_ind(bf16, fp32, equal_var=False, alternative="less")
    assert found.pvalue > 0.01, (fp32, bf16)


@pytest.mark.slow
@pytest.mark.parametrize("name", method_infos())
@pytest.mark.parametrize("own", [("bf16", "fp32"), ("fp32", "bf16")])
def test_teacher_and_student_of_different_precision(name: str, own: tuple[str, str]) -> None:
    pair = Pair("resnet14", "resnet8")
    lab = Lab(pair, digit_images(8, 8, 8))
    settings = [ModelSettings.model_validate({"precision": precision}) for precision in own]
    per_model = dict(zip(pair, settings, strict=True))
    lab.recipe = lab.recipe.model_copy(update={"per_model": per_model})
    lab.teacher = Network(pair.teacher, lab.teacher.model, lab.recipe)
    trainee = lab.start(lab.run([method_ref(name)]))
    if trainee.epoch < 1:
        lab.train([trainee], stop_after=1)
        trainee.end_epoch(None, None)
    lab.train([trainee], stop_after=1)
    assert all(value.isfinite().all() for value in trainee.student.model.state_dict().values())
    trainee.eval()
    with torch.no_grad():
        assert trainee.predict(lab.batch().images).isfinite().all()


@pytest.mark.slow
def test_digits(digits: Path, tmp_path: Path) -> None:
    only = ["column=wrn_16_2-resnet8", "row=KD"]
    found = [
        accuracies("digits", only, "0-5", sets, digits, tmp_path)
        for sets in ([], ["recipe.precision=bf16"])
    ]
    assert_no_loss(*found)


@pytest.mark.slow
def test_cifar100_subset(fixtures: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_dataset("cifar100", fixtures / "data" / "cifar-100-python", data, allow_altered=True)
    table = tmp_path / "small.yaml"
    table.write_text(CIFAR)
    found = [
        accuracies(str(table), [], "0-2", sets, data, tmp_path / "runs")
        for sets in ([], ["recipe.precision=bf16"])
    ]
    assert_no_loss(*found)
