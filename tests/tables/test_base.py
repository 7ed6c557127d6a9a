"""A table with a base adds a user's rows, columns and missing values, and changes nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.planning.matrix import Context, make_plan
from benchmark.table.load import load_table
from benchmark.table.selection import Selection
from tests.two_users import ALICE, a_place, acting_as, as_root

MINE = """\
schema: 1
name: mine
base: cifar100
rows:
  - {name: Mine, group: logits, methods: [{kd: {temperature: 2.0}}]}
columns:
  - {teacher: vgg13, student: vgg11}
names: {vgg11: VGG11}
published:
  DHKD:
    resnet32x4-shufflenetv1: {value: 77.5, statistic: best, status: paper, source: a letter}
  Mine:
    resnet56-resnet20: {value: 71.0, status: paper, source: mine}
"""


def write(folder: Path, name: str, text: str) -> str:
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_row_a_column_and_a_missing_value_are_added(tmp_path: Path) -> None:
    base = load_table("cifar100")
    mine = load_table(write(tmp_path, "mine", MINE))
    assert [row for row in mine.rows if row.name != "Mine"] == list(base.rows)
    assert mine.columns[:-1] == base.columns
    assert mine.display("vgg11") == "VGG11"
    assert mine.display("wrn_40_2") == base.display("wrn_40_2")
    filled = mine.published_value("DHKD", "resnet32x4-shufflenetv1", "top1")
    own = mine.published_value("Mine", "resnet56-resnet20", "top1")
    assert filled is not None
    assert own is not None
    assert (filled.value, own.value) == (77.5, 71.0)
    unchanged = mine.published_value("KD", "resnet56-resnet20", "top1")
    assert unchanged == base.published_value("KD", "resnet56-resnet20", "top1")
    assert mine.claims == base.claims


def test_a_row_stands_behind_the_last_of_its_group(tmp_path: Path) -> None:
    rows = (
        "  - {name: New, group: mine, methods: [dkd]}\n"
        "  - {name: FitNet2, group: features, methods: [fitnet]}\n"
        "  - {name: FitNet3, group: features, methods: [{fitnet: {weight: 2.0}}]}\n"
        "  - {name: Alone, methods: [kd]}\n"
    )
    mine = load_table(
        write(tmp_path, "mine", f"schema: 1\nname: mine\nbase: digits\nrows:\n{rows}")
    )
    names = [row.name for row in mine.rows]
    assert names[names.index("RKD") :][:3] == ["RKD", "FitNet2", "FitNet3"]
    assert names[-2:] == ["New", "Alone"]


def test_shared_cells_share_their_runs(tmp_path: Path) -> None:
    context = Context(tmp_path, "cpu")
    base = make_plan(load_table("cifar100"), Selection(seeds=(0,)), context)
    mine = make_plan(load_table(write(tmp_path, "mine", MINE)), Selection(seeds=(0,)), context)
    keys = {run.key for run in mine.runs}
    assert {run.key for run in base.runs} < keys
    rows = {slot.row.name for slot in mine.slots}
    assert rows - {slot.row.name for slot in base.slots} == {"Mine"}


def test_bases_may_have_bases(tmp_path: Path) -> None:
    write(tmp_path, "mine", MINE)
    text = "schema: 1\nname: more\nbase: mine\nrows:\n  - {name: More, methods: [dkd]}\n"
    more = load_table(write(tmp_path, "more", text))
    names = [row.name for row in more.rows]
    assert names[-1] == "More"
    assert "Mine" in names


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("DHKD:", "DKD:", r"published\.DKD\.resnet32x4-shufflenetv1 is known in the base"),
        ("names: {", "recipe: digits_60\nnames: {", r"'recipe' cannot be set in a table with a"),
        ("names: {", "seeds: [0]\nnames: {", r"'seeds' cannot be set"),
        ("name: Mine, group", "name: DKD, group", r"two rows are named 'DKD'"),
        ("student: vgg11", "student: vgg8", r"two columns are named 'vgg13-vgg8'"),
        ("base: cifar100", "base: cifar101", r"unknown table 'cifar101'.*did you mean 'cifar100"),
    ],
)
def test_nothing_else_may_change(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in MINE
    path = write(tmp_path, "mine", MINE.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        load_table(path)


def test_a_cycle_of_bases_is_named(tmp_path: Path) -> None:
    for name, base in (("one", "two"), ("two", "three"), ("three", "one")):
        write(tmp_path, name, f"schema: 1\nname: {name}\nbase: {base}\n")
    with pytest.raises(UserError, match=r"cycle \(one.yaml -> two.yaml -> three.yaml -> one.yaml"):
        load_table(str(tmp_path / "one.yaml"))


@as_root
def test_plugins_of_a_table_that_others_may_change_run_only_where_it_is_named_by_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with a_place() as place:
        (place / "tables").mkdir()
        text = f"{MINE}plugins: [mine.py]\n"
        write(place / "tables", "mine", text)
        write(place / "tables", "harmless", MINE)
        write(place / "tables", "upon", "schema: 1\nname: upon\nbase: mine\n")
        monkeypatch.chdir(place)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "config"))
        with acting_as(ALICE):  # to whom the files of root are fine
            assert load_table("mine").plugins == load_table("upon").plugins != ()
        (place / "tables").chmod(0o777)
        with acting_as(ALICE):
            assert load_table("harmless").plugins == ()
            for name in ("mine", "upon"):
                with pytest.raises(UserError, match=r"tables/mine\.yaml brings plug-ins.*by path"):
                    load_table(name)
                assert load_table(f"tables/{name}.yaml").plugins
