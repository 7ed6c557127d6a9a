"""What of the online methods cannot train is refused in one line when runs are planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.planning.matrix import Context, Plan, make_plan
from benchmark.table.load import load_table
from benchmark.table.selection import Selection
from benchmark.train.trial import problems

TABLE = """
schema: 1
name: mine
source: {{paper: none}}
dataset: digits
recipe: digits_60
recipe_overrides: {{{overrides}}}
teacher: {{from: train, seed: same}}
seeds: [0]
columns:
  - {{teacher: wrn_16_2, student: {student}}}
rows:
  - {{name: Mine, methods: {methods}{more}}}
"""

CASES = {
    "a peer that does not exist": ("[{dml: {peer: resnt8}}]", "did you mean 'resnet8'"),
    "one network": ("[{dml: {num_networks: 1}}]", "dml.num_networks"),
    "one network of KDCL": ("[{kdcl: {num_networks: 1}}]", "kdcl.num_networks"),
    "a stage that is not there": ("[{okddip: {stage: 3}}]", "branches off after stage 3"),
    "a stage beside whole networks": (
        "[{okddip: {form: networks, stage: 2}}]",
        "trains whole networks, so stage 2 has no meaning",
    ),
    "a negative stage": ("[{one: {stage: -1}}]", "branches off after stage -1"),
    "too many branches": ("[{dks: {num_branches: 4}}]", "starts 4 branches"),
    "cycles that do not divide": ("[{snapshot: {cycles: 7}}]", "do not divide 60 epochs"),
    "no held-out images": ("[{kdcl: {target: general}}]", "set recipe.holdout"),
    "two methods with turns": ("[dml, afd]", "take turns of their own"),
    "without images beside another": ("[zskt, kd]", "stand in a row alone"),
}


def plan(
    tmp_path: Path, methods: str, more: str = "", student: str = "resnet8", overrides: str = ""
) -> Plan:
    path = tmp_path / "mine.yaml"
    path.write_text(TABLE.format(methods=methods, more=more, student=student, overrides=overrides))
    return make_plan(load_table(str(path)), Selection(), Context(tmp_path, "cpu"))


@pytest.mark.parametrize("case", CASES)
def test_refused(case: str, tmp_path: Path) -> None:
    methods, says = CASES[case]
    with pytest.raises(UserError) as error:
        plan(tmp_path, methods)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_an_output_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'peer1'"):
        plan(tmp_path, "[dml]", ", reported: peer2")
    plan(tmp_path, "[dml]", ", reported: peer1")


@pytest.mark.parametrize(
    ("method", "student", "has"),
    [
        ("byot", "resnet8", ("c1", "c2")),
        ("byot", "resnet18", ("c1", "c2", "c3")),
        ("{byot: {form: collection}}", "resnet18", ("c1", "c2")),
    ],
)
def test_the_classifiers_of_a_network_s_stages(
    tmp_path: Path, method: str, student: str, has: tuple[str, ...]
) -> None:
    for name in (*has, "ensemble"):
        plan(tmp_path, f"[{method}]", f", reported: {name}", student=student)
    with pytest.raises(UserError, match=f"unknown output 'c{len(has) + 1}'"):
        plan(tmp_path, f"[{method}]", f", reported: c{len(has) + 1}", student=student)


def test_cycles_that_are_not_the_rates(tmp_path: Path) -> None:
    overrides = "schedule: {kind: cosine, per: iteration, cycles: 6}"
    with pytest.raises(UserError, match="has 4 cycles, and the learning rate 6"):
        plan(tmp_path, "[snapshot]", overrides=overrides)
    plan(tmp_path, "[{snapshot: {cycles: 6}}]", overrides=overrides)


def test_images_that_no_generator_makes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="multiple of 4"):
        plan(tmp_path, "[zskt]", overrides="input_size: 10")
    plan(tmp_path, "[zskt]")


def test_a_teacher_that_nobody_asks(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"names the teacher resnet14, and dml takes none"):
        plan(tmp_path, "[dml]", ", teacher: resnet14")
    plan(tmp_path, "[{dml: {peer: pair}}]", ", teacher: resnet14")
    plan(tmp_path, "[kd]", ", teacher: resnet14")


def test_a_method_without_the_teacher_that_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = TABLE.format(methods="[kd]", more="", student="resnet8", overrides="")
    path.write_text(text.replace("teacher: wrn_16_2, ", ""))
    with pytest.raises(UserError, match=r"columns\.0\.teacher: Field required"):
        load_table(str(path))


def test_a_network_whose_size_is_not_known(tmp_path: Path) -> None:
    planned = plan(tmp_path, "[zskt]", student="timm:vit_tiny_patch16_224")
    (run,) = (run for run in planned.runs if run.methods)
    (why,) = problems([run], {"digits": 100}).values()
    assert "set recipe.input_size" in why


def test_fitting_options_are_planned(tmp_path: Path) -> None:
    plan(tmp_path, "[{dml: {peer: pair, num_networks: 3}}]")
    plan(tmp_path, "[{snapshot: {cycles: 5}}]")
    plan(tmp_path, "[{kdcl: {target: general}}]", overrides="holdout: 20")
