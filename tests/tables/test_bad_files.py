"""Wrong table files: one clear line with the place and the nearest guess, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.planning.matrix import Context, make_plan
from benchmark.table.load import load_table
from benchmark.table.selection import Selection

GOOD = """\
schema: 1
name: small
source: {paper: none}
dataset: digits
recipe: digits_60
teacher: {from: train, seed: same}
seeds: [0]
columns:
  - {teacher: wrn_16_2, student: resnet8}
rows:
  - {name: Teacher, of: teacher}
  - {name: KD, methods: [{kd: {temperature: 2.0}}]}
  - {name: DKD, methods: [dkd], per_column: {wrn_16_2-resnet8: {dkd: {beta: 2.0}}}}
published:
  KD:
    wrn_16_2-resnet8: {value: 70.66, source: poster}
expected_misses:
  - {row: KD, column: wrn_16_2-resnet8, value: 60.0, reason: none, source: none}
claims:
  - {text: DKD is better., expect: {row: DKD, relation: better, than: [KD]}, source: none}
"""
COLUMN = "  - {teacher: wrn_16_2, student: resnet8}\n"
CELL = "{value: 70.66, source: poster}"


def plan(folder: Path, text: str) -> None:
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    make_plan(load_table(str(path)), Selection(), Context(folder, "cpu"))


def test_the_unchanged_file_is_good(tmp_path: Path) -> None:
    plan(tmp_path, GOOD)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dataset: digits", "dataset: digits\ncolour: red", r"unknown key 'colour'"),
        ("methods: [dkd]", "methds: [dkd]", r"unknown key 'methds'.*did you mean 'methods'"),
        ("methods: [dkd],", "methods: [dkdd],", r"unknown method 'dkd' in row 'DKD'"),
        ("- {name: KD, methods: [{kd:", "- {name: KD, methods: [{kdd:", r"did you mean 'kd'"),
        (
            "{from: train, seed: same}",
            "{from: train, distilled: {wrn_16_3: {teacher: resnet14, methods: [kd]}}}",
            r"unknown teacher 'wrn_16_3' in distilled.*did you mean 'wrn_16_2'",
        ),
        ("{temperature: 2.0}", "{temprature: 2.0}", r"did you mean 'temperature'"),
        ("{temperature: 2.0}", "{temperature: -1}", r"kd\.temperature: .*greater than 0"),
        ("{temperature: 2.0}", "{temperature: warm}", r"kd\.temperature"),
        ("{dkd: {beta", "{kd: {beta", r"unknown method 'kd'.*per_column"),
        ("per_column: {wrn_16_2-r", "per_column: {wrn_16-r", r"did you mean 'wrn_16_2-resnet8'"),
        ("resnet8}\n", "resnet9, name: wrn_16_2-resnet8}\n", r"unknown model 'resnet9'.*did you"),
        ("recipe: digits_60", "recipe: digits_6", r"did you mean 'digits_60'"),
        ("dataset: digits", "dataset: digit", r"did you mean 'digits'"),
        (COLUMN, COLUMN + COLUMN, r"two columns are named 'wrn_16_2-resnet8'"),
        ("{name: KD,", "{name: DKD,", r"two rows are named 'DKD'"),
        ("seeds: [0]", "seeds: [0, 0]", r"two seeds are named '0'"),
        ("seeds: [0]", "seeds: []", r"at least one seed"),
        ("seeds: [0]", "seeds: [-1]", r"seeds\.0"),
        ("dataset: digits", "dataset: digits\ndataset: digits", r"the key 'dataset' stands twice"),
        ("source: poster}", "source: poster, value: 1.0}", r"the key 'value' stands twice"),
        (CELL, '{value: "70.66", source: poster}', r"value: Input should be a valid number"),
        (CELL, "{value: about 70, source: poster}", r"value: Input should be a valid number"),
        (CELL, "{value: 170, source: poster}", r"value: Input should be less than or equal to 100"),
        (CELL, "{value: .nan, source: poster}", r"value: .*finite"),
        (CELL, "{value: true, source: poster}", r"value: Input should be a valid number"),
        (CELL, "{value: 70.66}", r"source: Field required"),
        (CELL, "70.66", r"needs a source"),
        (CELL, "{value: 70.66, source: poster, statistic: mean}", r"statistic"),
        ("published:\n  KD:", "published:\n  KDD:", r"unknown row 'KDD'.*did you mean"),
        ("    wrn_16_2-resnet8: {v", "    wrn-resnet8: {v", r"unknown column 'wrn-resnet8'"),
        ("{row: KD, column", "{row: KKD, column", r"unknown row 'KKD'.*expected_misses"),
        ("than: [KD]", "than: [Vanilla]", r"unknown row 'Vanilla'.*claims"),
        ("value: 60.0,", "value: 60.0, metric: top5,", r"unknown metric 'top5'.*expected_misses"),
        ("than: [KD]", "than: [KD], metric: top5", r"unknown metric 'top5' in claims"),
        ("relation: better", "relation: nicer", r"relation"),
        ("methods: [dkd],", "methods: [dkd], of: student,", r"exactly one of"),
        ("methods: [dkd],", "methods: [dkd], grid: {dkd.beta: [1.0]},", r"`grid` and `select`"),
        ("methods: [dkd],", "methods: [dkd], not_run: {x-y: z},", r"unknown column 'x-y'"),
        (
            "methods: [dkd],",
            "methods: [dkd], assumed: [{option: [dkd.beta, kd.weight], note: none}],",
            r"unknown method 'kd'",
        ),
        ("methods: [dkd],", "methods: [dkd], sources: {beta: none},", r"must be method\.option"),
        ("student: resnet8}", "student: resnet8, recipe: {lrr: 1.0}}", r"'lrr'.*did you mean 'lr'"),
        ("seeds: [0]", "seeds: &s [0]", r"line 7: anchors and aliases are not allowed"),
        ("rows:\n", "rows:\n  - [\n", r"small\.yaml, line"),
        (GOOD, "- a list\n", r"expected a mapping, got list"),
        ("schema: 1", "schema: 2", r"schema"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(UserError, match=message) as caught:
        plan(tmp_path, GOOD.replace(old, new, 1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("than", "tables", "message"),
    [
        ("DKD", "small", ""),
        ("Vanilla", "small", r"small\.yaml.*unknown row 'Vanilla' in claims"),
        ("DKD", "small, digits", ""),
        ("Vanila", "thesis-2", r"^claims of table small: unknown row 'KD' in table thesis-2"),
        ("DKD", "digitz", r"^claims of table small: unknown table 'digitz'; did you mean 'digits'"),
    ],
)
def test_a_claim_over_tables_names_rows_that_they_have(
    tmp_path: Path, than: str, tables: str, message: str
) -> None:
    expect = f"{{row: KD, relation: better, than: [{than}], tables: [{tables}]}}"
    text = GOOD.replace("{row: DKD, relation: better, than: [KD]}", expect)
    if not message:
        plan(tmp_path, text)
        return
    with pytest.raises(UserError, match=message) as caught:
        plan(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_methods_that_disagree_on_the_cross_entropy_must_be_settled(tmp_path: Path) -> None:
    composed = GOOD.replace("methods: [dkd],", "methods: [dkd, kd],")
    with pytest.raises(UserError, match="disagree on the cross-entropy"):
        plan(tmp_path, composed)
    plan(tmp_path, composed.replace("methods: [dkd, kd],", "methods: [dkd, kd], ce_weight: 1.0,"))


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"cannot read .*binary\.yaml"):
        load_table(str(path))
    with pytest.raises(UserError, match="does not exist"):
        load_table(str(tmp_path / "none.yaml"))


def test_an_unknown_table_gets_the_nearest_guess() -> None:
    with pytest.raises(UserError, match=r"unknown table 'cifar10'.*did you mean 'cifar100'"):
        load_table("cifar10")
