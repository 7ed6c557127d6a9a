"""Figures that look into networks: real ones, on real images."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

import benchmark
from benchmark.figures.drawing import FigureSource
from benchmark.figures.kinds.correlation import differences
from benchmark.figures.kinds.relative_logits import examples
from benchmark.figures.kinds.tsne import purity
from benchmark.figures.networks import columns
from benchmark.results.report import make_report
from tests.cli.command import bench

KINDS = ("tsne", "correlation", "attention", "relative-logits", "conflict")


def test_a_copy_of_the_teacher_has_no_difference() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 6))
    assert differences(3 * logits + 1, logits) == pytest.approx(0.0)
    mirrored = logits * np.array([-1, 1, 1, 1, 1, 1])
    found = differences(mirrored, logits)
    assert found[0, 1] == pytest.approx(2 * abs(np.corrcoef(logits, rowvar=False)[0, 1]))
    assert found[1:, 1:] == pytest.approx(0.0)
    constant = np.concatenate([logits[:, :5], np.ones((50, 1))], axis=1)
    assert np.isfinite(differences(constant, logits)).all()


def test_neighbours_of_ones_class() -> None:
    apart = np.repeat([[0.0, 0.0], [50.0, 0.0]], 20, axis=0)
    apart += np.random.default_rng(0).normal(size=apart.shape)
    assert purity(apart, np.repeat([0, 1], 20)) == 1.0
    assert purity(apart, np.tile([0, 1], 20)) == pytest.approx(0.5, abs=0.1)


def test_examples_are_the_surest_right_and_wrong_ones() -> None:
    logits = torch.tensor([[9.0, 0.0], [2.0, 0.0], [0.0, 5.0], [0.0, 8.0]])
    assert examples(logits, torch.tensor([0, 0, 0, 0])) == [("right", 0), ("wrong", 3)]
    assert examples(logits, torch.tensor([0, 0, 1, 1])) == [("right", 0)]


@pytest.mark.slow
def test_networks_are_those_of_the_runs(trained: Path, digits: Path) -> None:
    report = make_report(str(trained / "tiny.yaml"), runs_dir=trained / "runs")
    whole = FigureSource(report, digits, images=10_000)
    (found,) = columns(whole)
    assert [one.name for one in found.networks] == ["Teacher", "Student", "KD"]
    for one in found.networks[1:]:
        accuracy = 100 * (one.logits.argmax(1) == found.images.labels).double().mean().item()
        expected = whole.first_done(one.name, "wrn_16_2-resnet8")
        assert expected is not None
        assert expected.key == one.run
        assert accuracy == pytest.approx(expected.value("top1", "last"))
        assert {len(stage) for stage in one.stages} == {8}
    teacher = benchmark.load_student(found.networks[0].run, runs=trained / "runs")
    assert torch.equal(teacher(found.images.images), found.networks[0].logits)
    some = FigureSource(report, digits, images=100)
    (part,) = columns(some, classes=4)
    assert len(part.images.labels) == 100
    assert len(part.images.labels.unique()) == 4


@pytest.mark.slow
def test_they_are_drawn_and_the_same_again(trained: Path, digits: Path, tmp_path: Path) -> None:
    for folder, kinds in (("a", KINDS), ("b", ("tsne", "conflict"))):
        said = bench(
            "figures", "-t", trained / "tiny.yaml", "--runs", trained / "runs", "--data", digits,
            "--images", 60, "--out", tmp_path / folder,
            *(word for kind in kinds for word in ("--kind", kind)),
        )  # fmt: skip
        assert said.code == 0, said.err
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names >= {f"tiny-{kind}-wrn_16_2-resnet8.png" for kind in KINDS}
    again = {path.name for path in (tmp_path / "b").iterdir()}
    assert len(again) == 8
    for name in again:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    with (tmp_path / "a" / "tiny-correlation-wrn_16_2-resnet8.csv").open(newline="") as file:
        means = {
            r["row"]: float(r["difference"]) for r in csv.DictReader(file) if r["class_a"] == "all"
        }
    assert means.keys() == {"Student", "KD"}
    with (tmp_path / "a" / "tiny-conflict-wrn_16_2-resnet8.csv").open(newline="") as file:
        conflicts = list(csv.DictReader(file))
    assert all(-1 <= float(r["cosine"]) <= 1 for r in conflicts)
    assert sum(r["classifier"] == "True" for r in conflicts) == 2
    assert all(0 < mean < 2 for mean in means.values())


@pytest.mark.slow
def test_without_the_data_one_line_says_so(trained: Path, tmp_path: Path) -> None:
    said = bench(
        "figures", "-t", trained / "tiny.yaml", "--runs", trained / "runs",
        "--data", tmp_path / "nothing", "--kind", "tsne", "--out", tmp_path / "out",
    )  # fmt: skip
    assert said.code == 2
    assert "digits" in said.err
    assert len(said.err.splitlines()) == 1
