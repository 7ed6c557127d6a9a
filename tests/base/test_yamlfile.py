"""Texts that are no table: one line each, whatever is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.base.yamlfile import parse_yaml, validate
from benchmark.table.load import load_table
from benchmark.table.recipe import Recipe, named_recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\n? [b]\n: c", r"file, line 2: a key must be a name or a number"),
        ("a: {b: 1, b: 2}", r"line 1: the key 'b' stands twice"),
        ("a: *b", r"undefined alias"),
        ("a: !!python/object/apply:os.system ['id']", r"could not determine a constructor"),
        ("a: {<<: {b: 1}}", r"merge"),
        ("a: 1\n---\nb: 2", r"another document"),
        ("a: \x00", r"control characters"),
        ("a: " + "9" * 5000, r"limit"),
    ],
)
def test_wrong_texts(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parse_yaml(text, "file")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("file")


def test_scalars_are_what_they_look_like() -> None:
    found = parse_yaml("{on: yes, rate: 5e-4, off: No, t: true, n: null, sha: 12e4567}", "")
    assert found["on"] == "yes"
    assert found["rate"] == 5e-4
    assert found["off"] == "No"
    assert found["t"] is True
    assert found["n"] is None


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"kind": "plateau", "patence": 1}, r"unknown key 'patence'.*did you mean 'patience'"),
        ({"kind": "milestones", "gama": 1.0, "milestones": [1]}, r"did you mean 'gamma'"),
        ({"kind": "linear"}, r"linear.*'milestones', 'plateau', 'cosine'"),
        ({"milestones": [1]}, r"kind"),
    ],
)
def test_keys_of_one_kind_of_schedule(schedule: dict[str, object], message: str) -> None:
    data = named_recipe("digits_60").model_dump() | {"schedule": schedule}
    with pytest.raises(UserError, match=message):
        validate(Recipe, data, "recipe")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: 5", r"rows: expected a list, got int"),
        ("columns: {a: b}", r"columns: expected a list, got dict"),
        ("names: [a]", r"names: expected a mapping, got list"),
        ("published: [1]", r"published: expected a mapping, got list"),
        ("published: {KD: 3}", r"published\.KD: expected a mapping, got int"),
        ("published: {1: {2: {value: 1}}}", r"published\.1"),
    ],
)
def test_wrong_parts_of_a_table_with_a_base(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"schema: 1\nname: mine\nbase: digits\n{text}\n")
    with pytest.raises(UserError, match=message):
        load_table(str(path))


def test_a_base_is_looked_for_beside_the_table_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = load_table("digits")
    for folder, seed in (("here", 5), ("there", 6)):
        (tmp_path / folder).mkdir()
        text = "schema: 1\nname: base\nsource: {paper: none}\ndataset: digits\n"
        text += f"recipe: digits_60\nseeds: [{seed}]\nrows: [{{name: S, of: student}}]\n"
        text += f"columns: [{{teacher: {digits.columns[0].teacher}, student: resnet8}}]\n"
        (tmp_path / folder / "base.yaml").write_text(text)
    (tmp_path / "there" / "mine.yaml").write_text("schema: 1\nname: mine\nbase: base.yaml\n")
    monkeypatch.chdir(tmp_path / "here")
    assert load_table("../there/mine.yaml").seeds == (6,)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 2000 + "]" * 2000,
        "{a: " * 1500 + "1" + "}" * 1500,
        "- " * 400 + "a",
        "\n".join(" " * n + f"a{n}:" for n in range(300)) + " 1",
    ],
)
def test_what_no_table_is_ends_in_a_line(text: str) -> None:
    with pytest.raises(UserError, match="nested too deeply"):
        parse_yaml(text, "it")


def test_many_short_collections_are_read() -> None:
    assert parse_yaml("[" + "{a: [1]}, " * 2000 + "]", "it") == [{"a": [1]}] * 2000


def test_a_text_of_any_length_is_not_read() -> None:
    with pytest.raises(UserError, match="it has 4,000,001 characters"):
        parse_yaml("a" * 4_000_001, "it")
