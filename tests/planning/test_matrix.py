"""From a table to runs: slots, compositions, sweeps, overrides, selections."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from benchmark.base.errors import UserError
from benchmark.methods.catalog import add_plugin
from benchmark.planning.matrix import Context, Plan, make_plan
from benchmark.run.identity import Run
from benchmark.table.load import load_table
from benchmark.table.recipe import RECIPES
from benchmark.table.selection import parse_selection

TABLE = """\
schema: 1
name: small
source: {paper: none}
dataset: cifar100
recipe: crd_240
teacher: TEACHER
seeds: [0, 1]
columns:
  - {teacher: resnet56, student: resnet20}
  - {teacher: resnet110, student: resnet20}
  - {teacher: resnet110, student: resnet32, recipe: {lr: 0.1}}
rows:
  - {name: Teacher, of: teacher}
  - {name: Student, of: student}
  - {name: KD, methods: [kd]}
  - {name: Smooth, methods: [label_smoothing]}
  - {name: DKD, methods: [dkd], per_column: {resnet56-resnet20: {dkd: {beta: 2.0}}}}
  - {name: Both, methods: [rkd, dhkd], not_run: {resnet110-resnet32: no space}}
  - {name: Paper, reference: true}
  - name: Tuned
    methods: [kd]
    grid: {kd.temperature: [2.0, 8.0], recipe.lr: [0.1]}
    select: {on: test}
"""
TRAIN_FIXED, TRAIN_SAME = "{from: train, seed: fixed}", "{from: train, seed: same}"
CHAIN = """{from: train, distilled: {
  resnet56: {teacher: resnet110, methods: [{kd: {temperature: 2.0}}]},
  resnet110: {teacher: MODEL, methods: [kd]}}}"""
COLUMNS = ("resnet56-resnet20", "resnet110-resnet20", "resnet110-resnet32")
COLUMN = "column=resnet56-resnet20"
PLUGIN = '''"""Nothing."""
from benchmark.methods.base import Method
from benchmark.methods.options import MethodOptions


class Options(MethodOptions):
    """None."""

    weight: float = 1.0


class Mine(Method[Options]):
    """Nothing."""
'''


def plan(
    folder: Path,
    only: list[str] | None = None,
    seeds: str | None = None,
    sets: list[str] | None = None,
    teacher: str = TRAIN_FIXED,
    text: str = TABLE,
    device: str = "cpu",
) -> Plan:
    path = folder / "small.yaml"
    path.write_text(text.replace("TEACHER", teacher), encoding="utf-8")
    chosen = parse_selection(only or (), seeds, sets or ())
    return make_plan(load_table(str(path)), chosen, Context(folder, device))


def runs_of(plan: Plan, row: str, column: str = "resnet56-resnet20") -> list[Run]:
    (slot,) = [s for s in plan.slots if (s.row.name, s.column.name) == (row, column)]
    return [run for variant in slot.variants for run in variant.runs]


# -- slots, cells, runs ---------------------------------------------------------------------------


def test_every_slot_stands_once_and_in_order(tmp_path: Path) -> None:
    table = load_table(str(plan(tmp_path) and tmp_path / "small.yaml"))
    slots = [(s.row.name, s.column.name) for s in plan(tmp_path).slots]
    assert slots == [(r.name, c.name) for r in table.rows for c in table.columns]


def test_rows_without_runs_have_none(tmp_path: Path) -> None:
    found = plan(tmp_path)
    assert runs_of(found, "Paper") == []
    assert runs_of(found, "Both", "resnet110-resnet32") == []
    assert len(runs_of(found, "Both")) == 2


def test_slots_share_the_runs_of_a_cell(tmp_path: Path) -> None:
    found = plan(tmp_path)
    student = runs_of(found, "Student", "resnet56-resnet20")
    assert student == runs_of(found, "Student", "resnet110-resnet20")
    assert [run.key for run in found.runs].count(student[0].key) == 1
    assert len({run.key for run in found.runs}) == len(found.runs)
    # 2 teachers x 1 seed; per seed: 2 students, 3 KD, 2 smoothed, 3 DKD, 2 both, 3 x 2 tuned
    assert len(found.runs) == 2 + 2 * (2 + 3 + 2 + 3 + 2 + 6)


def test_only_rows_that_look_at_a_teacher_have_one(tmp_path: Path) -> None:
    found = plan(tmp_path)
    assert all(run.teacher is None for run in runs_of(found, "Student"))
    assert all(run.teacher is None for run in runs_of(found, "Smooth"))
    assert all(run.teacher is not None for run in runs_of(found, "KD"))


def test_options_and_recipes_are_resolved_from_the_general_to_the_particular(
    tmp_path: Path,
) -> None:
    found = plan(tmp_path)
    beta = {c: runs_of(found, "DKD", c)[0].methods[0].options["beta"] for c in COLUMNS}
    assert beta == {COLUMNS[0]: 2.0, COLUMNS[1]: 8.0, COLUMNS[2]: 8.0}
    rates = {c: runs_of(found, "KD", c)[0].recipe.lr for c in COLUMNS}
    assert rates == {COLUMNS[0]: 0.05, COLUMNS[1]: 0.05, COLUMNS[2]: 0.1}
    assert {run.recipe.lr for run in found.teachers} == {0.05}
    both = runs_of(found, "Both")[0]
    assert [m.name for m in both.methods] == ["rkd", "dhkd"]


def test_the_most_particular_recipe_wins(tmp_path: Path) -> None:
    row = "{name: KD, methods: [kd], recipe: {lr: 0.2, momentum: 0.5},"
    row += " recipe_per_column: {resnet110-resnet32: {lr: 0.3}}}"
    text = TABLE.replace("{name: KD, methods: [kd]}", row)
    found = plan(tmp_path, ["row=KD"], text=text)
    rates = [(runs_of(found, "KD", c)[0].recipe.lr) for c in COLUMNS]
    assert rates == [0.2, 0.2, 0.3]
    assert {runs_of(found, "KD", c)[0].recipe.momentum for c in COLUMNS} == {0.5}
    found = plan(tmp_path, ["row=KD"], sets=["recipe.lr=0.4"], text=text)
    assert {run.recipe.lr for run in found.runs} == {0.4}  # the teachers too


def test_another_named_recipe_takes_the_place_of_the_tables(tmp_path: Path) -> None:
    sets = ["recipe=thesis_200", "recipe.epochs=3"]
    found = plan(tmp_path, ["row=KD"], sets=sets)
    assert {(r.recipe.batch_size, r.recipe.epochs) for r in found.runs} == {(128, 3)}
    rates = [runs_of(found, "KD", c)[0].recipe.lr for c in COLUMNS]
    assert rates == [0.1, 0.1, 0.1]  # the recipe's own; the last column's stays
    with pytest.raises(UserError, match=r"unknown recipe 'crd_24' in --set; .*'crd_240'"):
        plan(tmp_path, sets=["recipe=crd_24"])


def test_device_auto_is_settled_when_runs_are_planned(tmp_path: Path) -> None:
    for device in ("cpu", "cuda"):
        assert {run.recipe.device for run in plan(tmp_path, device=device).runs} == {device}
    named = plan(tmp_path, sets=["recipe.device=cpu"], device="cuda")
    assert {run.recipe.device for run in named.runs} == {"cpu"}


def test_settings_of_networks_touch_their_own_runs_alone(tmp_path: Path) -> None:
    plain = plan(tmp_path)
    tuned = plan(tmp_path, sets=["recipe.per_model.resnet32.precision=bf16"])
    assert runs_of(tuned, "KD") == runs_of(plain, "KD")
    (run, *_) = runs_of(tuned, "KD", "resnet110-resnet32")
    assert run.recipe.settings("resnet32")[0] == "bf16"
    assert run.recipe.settings("resnet110")[0] == "fp32"
    with pytest.raises(UserError, match=r"'resnet33' .*per_model; did you mean 'resnet34'"):
        plan(tmp_path, sets=["recipe.per_model.resnet33.precision=bf16"])


# -- compositions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("methods: [kd, dkd]", r"disagree on the cross-entropy's weight \(kd 0\.1, dkd 1\)"),
        ("methods: [simkd, catkd], ce_weight: 1.0", r"simkd and catkd each bring their own"),
        ("methods: [dhkd, dot], ce_weight: 1.0", r"dhkd and dot each replace the optimiser step"),
        ("methods: [kd, kd]", r"a method stands in the row more than once \(kd, kd\)"),
        ("methods: [dhkd], recipe: {clip_norm: 5.0}", r"dhkd replaces .* clip_norm 5 would not"),
        ("methods: [kd], predict: kd", r"prediction of its own 'kd'.*valid: none"),
    ],
)
def test_contradictions_are_refused_before_anything_is_queued(
    tmp_path: Path, row: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        plan(tmp_path, ["row=KD"], text=TABLE.replace("methods: [kd]}", row + "}", 1))


@pytest.mark.parametrize(
    "row",
    [
        "methods: [kd, dkd], ce_weight: 1.0",
        "methods: [{dhkd: {gradient_alignment: false}}, dot], ce_weight: 1.0",
        "methods: [{dhkd: {clip_norm: 5.0}}], recipe: {clip_norm: 5.0}",
    ],
)
def test_what_a_row_settles_is_accepted(tmp_path: Path, row: str) -> None:
    plan(tmp_path, ["row=KD"], text=TABLE.replace("methods: [kd]}", row + "}", 1))


# -- sweeps and overrides -------------------------------------------------------------------------


def test_a_sweep_multiplies_the_cells_of_rows_that_use_the_method(tmp_path: Path) -> None:
    only = ["row=KD", "row=DKD", COLUMN]
    found = plan(tmp_path, only, sets=["method.kd.temperature=1,2", "method.kd.weight=0.5,0.9"])
    (swept,) = [slot for slot in found.slots if slot.row.name == "KD"]
    assert [dict(v.assignment) for v in swept.variants] == [
        {"kd.temperature": t, "kd.weight": w} for t in (1, 2) for w in (0.5, 0.9)
    ]
    assert len({v.cell_key for v in swept.variants}) == 4
    plain = plan(tmp_path, only)
    assert runs_of(found, "DKD") == runs_of(plain, "DKD")


def test_setting_what_is_so_already_changes_nothing(tmp_path: Path) -> None:
    plain, same = (
        plan(tmp_path, sets=sets)
        for sets in ([], ["method.kd.temperature=4", "recipe.epochs=240", "recipe.lr=0.05"])
    )
    assert runs_of(plain, "KD") == runs_of(same, "KD")


def test_a_grid_has_a_cell_for_every_combination(tmp_path: Path) -> None:
    found = plan(tmp_path, ["row=Tuned", COLUMN], seeds="0")
    runs = runs_of(found, "Tuned")
    assert [(run.methods[0].options["temperature"], run.recipe.lr) for run in runs] == [
        (2.0, 0.1),
        (8.0, 0.1),
    ]


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["method.kd.temprature=2"], r"option of kd 'temprature'.*did you mean 'temperature'"),
        (["method.kdd.temperature=2"], r"unknown method 'kdd' in --set; did you mean 'kd'"),
        (["method.crd.weight=2"], r"no selected row uses crd \(rows use .*kd"),
        (["method.kd.temperature=hot"], r"kd\.temperature: .*number.*\(got 'hot'\)"),
        (["recipe.epoch=2"], r"unknown key 'epoch' in --set .*did you mean 'epochs'"),
        (["recipe.epochs=two"], r"--set: epochs: .*integer"),
        (["recipe.epochs=0"], r"--set: epochs: .*greater than or equal to 1"),
        (["recipe.epochs=1.5"], r"--set: epochs"),
        (["recipe.lr=.inf"], r"--set: lr"),
        (["recipe.schedule.mile=[1]"], r"unknown key 'mile'.*did you mean 'milestones'"),
        (["recipe.schedul.milestones=[1]"], r"'schedul.milestones'.*did you mean 'schedule'"),
        (["recipe.lr.milestones=[1]"], r"unknown recipe field 'lr\.milestones'"),
        (["recipe.augmentation=croop"], r"'croop'.*did you mean 'crop_flip'"),
    ],
)
def test_wrong_sets(tmp_path: Path, sets: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        plan(tmp_path, sets=sets)
    assert "\n" not in str(caught.value)


# -- selections -----------------------------------------------------------------------------------


def test_a_selection_keeps_the_teachers_that_it_needs(tmp_path: Path) -> None:
    found = plan(tmp_path, ["method=kd", "student=resnet32", "row!=Tuned", "seed=1"])
    assert [(run.model, run.seed, bool(run.methods)) for run in found.runs] == [
        ("resnet110", 0, False),
        ("resnet32", 1, True),
    ]


def test_seeds_replace_the_tables_own(tmp_path: Path) -> None:
    assert {run.seed for run in runs_of(plan(tmp_path, seeds="3,5"), "KD")} == {3, 5}
    only = plan(tmp_path, ["seed!=3"], seeds="3,5")
    assert {run.seed for run in runs_of(only, "KD")} == {5}


@pytest.mark.parametrize(
    ("only", "message"),
    [
        (["student=resnet44"], r"student=resnet44 matches nothing.*\(valid: resnet20, resnet32\)"),
        (["row=kd"], r"row=kd matches nothing; did you mean 'KD'\?"),
        (["method=dhkd"], r"method=dhkd matches nothing.*valid: dkd, .*rkd\+dhkd"),
        (["uses=crd"], r"uses=crd matches nothing"),
        (["seed=7"], r"seed=7 matches nothing"),
        (["row=KD", "row!=KD"], r"--only row=KD --only row!=KD match nothing together"),
        # A slip must not silently train less, nor more, than was asked for.
        (["student=resnet20", "student=resnet33"], r"student=resnet33 matches nothing; did you"),
        (["row!=Tunned"], r"row!=Tunned matches nothing; did you mean 'Tuned'"),
        (["row=Paper", "seed=1"], r"row=Paper --only seed=1 match nothing together"),
    ],
)
def test_a_selection_that_matches_nothing_is_refused(
    tmp_path: Path, only: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        plan(tmp_path, only)


# -- versions -------------------------------------------------------------------------------------


def test_runs_carry_the_versions_of_their_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run, *_) = runs_of(plan(tmp_path), "KD")
    assert set(run.versions) == {"engine", "augmentation", "model:resnet20", "model:resnet56"}
    before = run.key
    monkeypatch.setattr("benchmark.planning.matrix.ENGINE_VERSION", 99)
    (run, *_) = runs_of(plan(tmp_path), "KD")
    assert run.versions["engine"] == 99
    assert run.key != before


def test_a_plugin_is_known_by_its_content(tmp_path: Path) -> None:
    keys = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        file = folder / f"mine{number}.py"
        file.write_text(PLUGIN + f"# {number}\n")
        info = add_plugin(file)
        (again,) = {add_plugin(file).version, info.version}
        text = TABLE.replace("methods: [kd]}", f"methods: [mine{number}]}}", 1)
        (run, *_) = runs_of(plan(folder, ["row=KD"], text=text), "KD")
        assert run.methods[0].version == again
        assert isinstance(again, str)
        keys.append(again)
    assert keys[0] != keys[1]


def test_every_named_recipe_gives_runs(tmp_path: Path) -> None:
    for name, recipe in RECIPES.items():
        text = TABLE.replace("crd_240", name)
        # Steps of its own are for runs without images, which a network alone is not.
        row = "Student" if recipe.steps_per_epoch is None else "Unseen"
        if recipe.drop_path:  # which convolutional networks have not
            pair, network = r"teacher: (\w+), student: (\w+)", "projector_deit_tiny"
            named = rf"name: \1-\2, teacher: \1, student: {network}"
            text = re.sub(pair, named, text)
        if row == "Unseen":
            text = text.replace("{name: KD, methods: [kd]}", "{name: Unseen, methods: [zskt]}")
        found = plan(tmp_path, [f"row={row}"], text=text, teacher="{from: registry, seed: fixed}")
        values: dict[str, Any] = runs_of(found, row)[0].recipe.model_dump()
        assert values == recipe.model_dump() | {"device": "cpu", "per_model": {}}, name
