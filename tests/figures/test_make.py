"""Files of figures: which kinds there are, the same bytes, where they come from."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from benchmark.figures.make import figure_kinds, make_figures
from benchmark.figures.style import VERDICTS
from benchmark.methods.catalog import add_plugin
from benchmark.results.grid import Verdict
from benchmark.results.report import made_by
from benchmark.table.load import load_table
from benchmark.table.selection import Selection, parse_selection
from tests.cli.command import bench
from tests.figures.conftest import ROWS

KINDS = ("curves", "differences", "forest", "cost")


def draw(runs: Path, out: Path, *kinds: str, table: str = "cifar100") -> dict[str, Path]:
    """Draw and return the PDFs by name."""
    nowhere = Path("/nonexistent")
    saved = make_figures(table, kinds, runs_dir=runs, data_dir=nowhere, out=out)
    return {one.name: one.pdf for one in saved}


def test_a_kind_is_one_file_and_says_what_it_shows() -> None:
    kinds = figure_kinds()
    assert set(KINDS) <= set(kinds)
    assert all(re.match(r"[A-Za-z].{20,}[^.]$", shows) for shows in kinds.values()), kinds


@pytest.mark.slow
def test_the_same_runs_give_the_same_bytes(
    column: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = draw(column, tmp_path / "a", "forest")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    monkeypatch.chdir(tmp_path)
    draw(column, Path("b"), "forest")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    assert len(names) == 4 * len(first)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_a_figure_names_its_runs_its_command_and_its_commit(column: Path, tmp_path: Path) -> None:
    (pdf,) = draw(column, tmp_path, "forest").values()
    told = json.loads(pdf.with_suffix(".json").read_text())
    rows = {re.split(r"-s\d+-", key)[0].rsplit("-", 1)[-1] for key in told["runs"]}
    assert rows == {"resnet20", "kd", "dkd", "simkd"}
    assert told["made_by"].startswith("bench figures --table cifar100 --kind forest (kd-benchmark")
    assert told["commits"] == ["0123456789abcdef0123456789abcdef01234567"]
    with Image.open(pdf.with_suffix(".png")) as image:
        words = image.text  # type: ignore[attr-defined]
    assert words["Software"] == told["made_by"]
    assert words["Source"].split() == told["runs"]
    assert told["commits"][0] in words["Comment"]
    assert str(tmp_path) not in pdf.read_bytes().decode("latin-1")
    assert b"CreationDate" not in pdf.read_bytes()


def test_the_data_are_what_the_table_says(column: Path, tmp_path: Path) -> None:
    paths = draw(column, tmp_path, "differences")
    told = json.loads(bench("collect", "-t", "cifar100", "--format", "json", "--runs", column).out)
    cells = {(c["row"], c["column"]): c for c in told["cells"] if c["delta"] is not None}
    with paths["cifar100-differences"].with_suffix(".csv").open(newline="") as file:
        drawn = {(line["row"], line["column"]): line for line in csv.DictReader(file)}
    assert drawn.keys() == cells.keys()
    assert {row for row, _ in drawn} == set(ROWS)
    for place, line in drawn.items():
        assert float(line["delta"]) == pytest.approx(cells[place]["delta"])
        assert line["verdict"] == cells[place]["verdict"]


def test_only_draws_a_part(column: Path, tmp_path: Path) -> None:
    chosen = parse_selection(["row=KD", "column=resnet56-resnet20"], None, [])
    nowhere = Path("/nonexistent")
    (one,) = make_figures(
        "cifar100", ["forest"], chosen, runs_dir=column, data_dir=nowhere, out=tmp_path
    )
    with one.csv.open(newline="") as file:
        assert [line["row"] for line in csv.DictReader(file)] == ["KD"]
    assert "--only row=KD" in json.loads(one.json.read_text())["made_by"]


@pytest.mark.slow
def test_its_command_has_every_option_that_moves_it(column: Path, tmp_path: Path) -> None:
    teachers = [f"resnet56={tmp_path / 'my.pth'}", "resnet110=timm:resnet18.a1_in1k"]
    (tmp_path / "my.pth").write_bytes(b"")
    chosen = parse_selection([], None, [], teachers)
    said = made_by("figures", "cifar100", chosen, None)
    assert "--teacher resnet110=timm:resnet18.a1_in1k --teacher resnet56=my.pth" in said
    nowhere = Path("/nonexistent")
    (one,) = make_figures(
        "cifar100", ["forest"], runs_dir=column, data_dir=nowhere, out=tmp_path / "out", images=64
    )
    assert "--kind forest --images 64" in json.loads(one.json.read_text())["made_by"]


def test_verdicts_differ_without_colours() -> None:
    shown = {v: VERDICTS[v] for v in Verdict if v is not Verdict.NOT_PUBLISHED}
    assert len({(shape, filled) for _, shape, filled in shown.values()}) == len(shown)


def test_bad_input_is_one_line(column: Path, tmp_path: Path) -> None:
    unknown = bench("figures", "-t", "digits", "--kind", "curve", "--out", tmp_path)
    assert (unknown.code, unknown.out) == (2, "")
    assert "curves" in unknown.err
    nothing = bench("figures", "-t", "digits", "--runs", tmp_path, "--out", tmp_path / "out")
    assert nothing.code == 2
    assert str(tmp_path) in nothing.err
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    taken = bench(
        "figures", "-t", "cifar100", "-k", "cost", "--runs", column, "--out", tmp_path / "file"
    )
    assert taken.code == 2
    assert "Traceback" not in taken.err


@pytest.mark.slow
def test_all_kinds_of_real_runs(trained: Path, digits: Path, tmp_path: Path) -> None:
    said = bench(
        "figures",
        "-t",
        trained / "tiny.yaml",
        "--runs",
        trained / "runs",
        "--data",
        digits,
        "--out",
        tmp_path,
        *(word for kind in KINDS for word in ("--kind", kind)),
    )
    assert said.code == 0, said.err
    names = {path.name for path in tmp_path.glob("*.pdf")}
    assert {f"tiny-{kind}.pdf" for kind in KINDS[1:]} | {
        "tiny-curves-wrn_16_2-resnet8.pdf"
    } <= names


def test_the_command_names_plug_ins_that_the_table_does_not(tmp_path: Path) -> None:
    network = (
        "from benchmark.models import model\n\n\n@model()\ndef {name}(num_classes):\n    pass\n"
    )
    for name in ("mine", "theirs"):
        (tmp_path / f"{name}.py").write_text(network.format(name=f"{name}_net"))
    table = tmp_path / "t.yaml"
    table.write_text("schema: 1\nname: t\nbase: digits\nplugins: [theirs.py]\n")
    assert "--plugin" not in made_by("figures", str(table), Selection(), None)
    add_plugin(tmp_path / "mine.py")
    load_table(str(table))
    said = made_by("figures", str(table), Selection(), None)
    assert said.startswith("bench figures --table t.yaml --plugin mine.py (kd-benchmark")
