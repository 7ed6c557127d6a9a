"""What a prediction costs is counted of what the reported output uses, and of nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.run.directory import RunDir
from tests.helpers import digits_plan, train

pytestmark = pytest.mark.slow

# resnet8 on digits, counted by hand of its layers.
NETWORK = 78_042


def prediction(digits: Path, tmp_path: Path, row: str) -> dict[str, int]:
    table = tmp_path / "mine.yaml"
    table.write_text(f"schema: 1\nname: mine\nbase: digits\nrows:\n  - {{name: mine, {row}}}\n")
    plan = digits_plan(digits, ["row=mine", "column=wrn_16_2-resnet8"], table=str(table))
    for run in sorted(plan.runs, key=lambda run: run.teacher is not None):  # a teacher first
        train([run], digits, tmp_path / "runs")
    student = next(run for run in plan.runs if run.model == "resnet8")
    found: dict[str, int] = RunDir(tmp_path / "runs", student.key).read_result()["prediction"]
    return found


@pytest.mark.parametrize(
    "row", ["methods: [dml]", "methods: [okddip]", "methods: [label_smoothing]"]
)
def test_a_network_alone(digits: Path, tmp_path: Path, row: str) -> None:
    found = prediction(digits, tmp_path, row)
    assert found["parameters"] == NETWORK
    assert found["multiply_adds"] == 781_952


def test_an_ensemble_counts_all_of_its_networks(digits: Path, tmp_path: Path) -> None:
    found = prediction(digits, tmp_path, "methods: [dml], reported: ensemble")
    assert found == {"parameters": 2 * NETWORK, "multiply_adds": 2 * 781_952}


def test_a_part_of_what_is_shared_is_not_told(digits: Path, tmp_path: Path) -> None:
    assert prediction(digits, tmp_path, "methods: [dml], reported: peer1") == {}


def test_what_predicts_instead_of_the_classifier_counts(digits: Path, tmp_path: Path) -> None:
    """SimKD's student predicts by its projector and its teacher's classifier."""
    found = prediction(digits, tmp_path, "methods: [simkd]")
    classifier, of_teacher = 64 * 10 + 10, 128 * 10 + 10
    middle = 128 // 2
    projector = 64 * middle + 9 * middle * middle + middle * 128 + 2 * (2 * middle + 128)
    assert found["parameters"] == NETWORK - classifier + of_teacher + projector
