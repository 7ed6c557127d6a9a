"""What a prediction costs is counted of what the reported output uses, and of nothing else."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmark.conformance.images import digit_images
from benchmark.conformance.lab import Lab, method_ref
from benchmark.conformance.pairs import Pair
from benchmark.run.directory import RunDir
from benchmark.train.test_time import of_prediction
from tests.helpers import digits_plan, train

# resnet8 on digits, counted by hand of its layers: all of them, and what follows its stage 2 but
# the last, where branches start from.
NETWORK, WORK = 78_042, 781_952
TAIL, TAIL_WORK = 58_378, 230_016
# Nothing of BYOT's first branch: 16 -> 16 -> 16 -> 64 channels, by kernels 1, 4 and 1.
FIRST_STAGE = 3 * 16 * 9 + 32 + 2 * (16 * 16 * 9 + 32)
FIRST_BRANCH = 16 * 16 + 16 * 16 * 16 + 16 * 64 + (16 + 16 + 64) * 3 + 64 * 10 + 10


@cache
def lab() -> Lab:
    return Lab(Pair("wrn_16_2", "resnet8"), digit_images(20, 8, 8))


def cost(name: str, reported: str, **options: Any) -> tuple[int, int]:
    run = lab().run([method_ref(name, **options)]).model_copy(update={"reported": reported})
    found = of_prediction(lab().start(run))
    return found["parameters"], found["multiply_adds"]


@pytest.mark.parametrize(
    ("method", "reported"),
    [
        ("pskd", "student"),
        ("dml", "student"),
        ("dml", "peer1"),
        ("okddip", "student"),
        ("okddip", "peer2"),
        ("ffl", "subnet2"),
        ("one", "branch2"),
        ("pcl", "average"),
        ("pcl", "peer3"),
        ("dks", "branch2"),
        ("afd", "peer1"),
    ],
)
def test_one_of_several_networks_costs_one(method: str, reported: str) -> None:
    assert cost(method, reported) == (NETWORK, WORK)


@pytest.mark.parametrize("method", ["dml", "kdcl", "afd"])
def test_an_ensemble_counts_all_of_its_networks(method: str) -> None:
    assert cost(method, "ensemble") == (2 * NETWORK, 2 * WORK)


def test_the_larger_network_of_two() -> None:
    parameters, work = cost("rocket", "booster")
    assert parameters > 8 * NETWORK
    assert cost("rocket", "ensemble") == (parameters + NETWORK, work + WORK)


def test_a_shared_trunk_counts_once() -> None:
    """OKDDip's ensemble is of its auxiliary peers alone: three tails on one trunk."""
    assert cost("okddip", "ensemble") == (NETWORK + 2 * TAIL, WORK + 2 * TAIL_WORK)
    assert cost("pcl", "mean_logits") == (NETWORK + 2 * TAIL, WORK + 2 * TAIL_WORK)


def test_parts_that_combine_branches_count() -> None:
    trunk = NETWORK - TAIL
    fused = trunk + 2 * (TAIL - 650)  # no tail's own classifier
    fusion = 128 * 9 + 2 * 128 + 128 * 64 + 2 * 64 + 650
    assert cost("ffl", "fused")[0] == fused + fusion
    gate = cost("one", "ensemble")[0] - (NETWORK + 2 * TAIL)
    assert gate == 3 * 32 + 3 + 2 * 3


def test_a_shallow_classifier_needs_no_later_stage() -> None:
    assert cost("byot", "c1")[0] == FIRST_STAGE + FIRST_BRANCH


def test_what_predicts_instead_of_the_classifier_counts() -> None:
    """SimKD's student predicts by its projector and its teacher's classifier."""
    classifier, of_teacher = 64 * 10 + 10, 128 * 10 + 10
    middle = 128 // 2
    projector = 64 * middle + 9 * middle * middle + middle * 128 + 2 * (2 * middle + 128)
    assert cost("simkd", "student")[0] == NETWORK - classifier + of_teacher + projector


@pytest.mark.slow
def test_a_finished_run_tells_it(digits: Path, tmp_path: Path) -> None:
    table = tmp_path / "mine.yaml"
    row = "methods: [dml], reported: peer1"
    table.write_text(f"schema: 1\nname: mine\nbase: digits\nrows:\n  - {{name: mine, {row}}}\n")
    plan = digits_plan(digits, ["row=mine", "column=wrn_16_2-resnet8"], table=str(table))
    (run,) = plan.runs
    train([run], digits, tmp_path / "runs")
    found = RunDir(tmp_path / "runs", run.key).read_result()["prediction"]
    assert found == {"parameters": NETWORK, "multiply_adds": WORK}
