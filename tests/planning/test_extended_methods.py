"""What planning knows of networks, further images, turns and outputs, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.conformance.pairs import Pair
from benchmark.conformance.parameters import Geometry, extra_parameters
from benchmark.methods.catalog import add_plugin
from benchmark.planning.matrix import Plan
from benchmark.planning.refuse import check_before_queue
from benchmark.train.trial import problems
from tests.helpers import digits_plan

EXTENDED = Path(__file__).parents[1] / "train" / "extended"
COLUMN = "column=wrn_16_2-resnet8"


@pytest.fixture(autouse=True)
def _extended(plugins: None) -> None:
    for path in EXTENDED.glob("[a-z]*.py"):
        add_plugin(path)


def planned(digits: Path, tmp_path: Path, row: str, *sets: str) -> Plan:
    table = tmp_path / "mine.yaml"
    table.write_text(f"schema: 1\nname: mine\nbase: digits\nrows:\n  - {{name: mine, {row}}}\n")
    return digits_plan(digits, ["row=mine", COLUMN], sets=sets, table=str(table))


REFUSED = [
    ("methods: [{two_peers: {peer: resnet9}}]", (), "unknown model 'resnet9'.*did you mean"),
    ("methods: [{side_branch: {stage: 3}}]", (), "side_branch branches after stage 3, and resnet8"),
    ("methods: [{side_branch: {stage: -1}}]", (), "side_branch.stage: .*greater than or equal"),
    ("methods: [{cycle_copy: {cycle: 7}}]", (), "cycle_copy has cycles of 7 .* not divide 60"),
    ("methods: [{cycle_copy: {held_out: true}}]", (), "held-out images; set recipe.holdout"),
    ("methods: [two_peers], reported: peers", (), "unknown output 'peers'; did you mean 'peer'"),
    ("methods: [critic, dot], ce_weight: 1.0", (), "dot replaces the optimiser step and critic"),
    ("methods: [no_images, kd], ce_weight: 1.0", (), "no_images trains without images"),
    ("methods: [two_peers]", ("recipe.epochs=1",), "two_peers needs two epochs"),
    ("methods: [two_peers]", ("recipe.steps_per_epoch=3",), "is for runs without images"),
    (
        "methods: [critic]",
        ("recipe.accumulate=2",),
        "critic replaces the optimiser step, so",
    ),
    (
        "methods: [three_companions]",
        ("recipe.mix.mixup=0.2", "recipe.drop_last=true"),
        "neither mixed nor repeated",
    ),
    (
        "methods: [two_peers, cycle_copy, three_companions, critic, side_branch, tied]",
        ("recipe.epochs=1",),
        "two_peers needs two epochs",
    ),
]


@pytest.mark.parametrize(("row", "sets", "says"), REFUSED)
def test_refused(digits: Path, tmp_path: Path, row: str, sets: tuple[str, ...], says: str) -> None:
    with pytest.raises(UserError, match=says):
        planned(digits, tmp_path, row, *sets)


def test_a_pair_is_in_the_key_and_needs_no_weights(digits: Path, tmp_path: Path) -> None:
    (alike,) = planned(digits, tmp_path, "methods: [two_peers]").runs[:1]
    (pair,) = planned(digits, tmp_path, "methods: [{two_peers: {peer: pair}}]").runs[:1]
    assert (alike.pair, pair.pair) == (None, "wrn_16_2")
    assert pair.teacher is None
    assert "model:wrn_16_2" in pair.versions
    assert "model:wrn_16_2" not in alike.versions
    (named,) = planned(digits, tmp_path, "methods: [{two_peers: {peer: resnet14}}]").runs[:1]
    assert "model:resnet14" in named.versions
    assert named.pair is None


def test_the_reported_output_is_in_the_key(digits: Path, tmp_path: Path) -> None:
    (plain,) = planned(digits, tmp_path, "methods: [two_peers]").runs[:1]
    (other,) = planned(digits, tmp_path, "methods: [two_peers], reported: ensemble").runs[:1]
    assert other.reported == "ensemble"
    assert other.key != plain.key


def test_a_reader_without_further_images_is_refused(digits: Path, tmp_path: Path) -> None:
    plan = planned(digits, tmp_path, "methods: [three_companions]")
    with pytest.raises(UserError, match=r"three_companions: the ffcv reader has no further images"):
        check_before_queue(plan.runs, digits, tmp_path / "runs", reader="ffcv")


@pytest.mark.parametrize("path", sorted(EXTENDED.glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_every_one_is_tried_before_the_queue(digits: Path, tmp_path: Path, path: Path) -> None:
    plan = planned(digits, tmp_path, f"methods: [{path.stem}]")
    assert problems(plan.runs, {"digits": 100}) == {}
    counts = extra_parameters(path.stem, Pair("wrn_16_2", "resnet8"), Geometry(10, 8, 20))
    assert counts.first_stage == 0


def test_a_pair_is_tried_too(digits: Path, tmp_path: Path) -> None:
    plan = planned(digits, tmp_path, "methods: [{two_peers: {peer: pair}}]")
    assert problems(plan.runs, {"digits": 100}) == {}
