"""What bench collect prints and writes: formats, remarks, the terminal's table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.cli import main
from benchmark.results.grid import State
from benchmark.results.judge import judge
from benchmark.results.report import make_report
from benchmark.results.terminal import show
from benchmark.run.directory import RunDir
from tests.results.filled import COLUMN, collected, edit, plan, runs_of, write
from tests.results.grids import measured, published, small
from tests.results.latex_syntax import check


def bench(*words: str | Path) -> int:
    """Run a command as the terminal does, in this process; return its exit code."""
    before, sys.argv = sys.argv, ["bench", *map(str, words)]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before
    return 0


# -- files and standard output --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_json_and_csv_alone_are_printed_and_nothing_is_written(
    kind: str,
    filled: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (filled / "foreign").touch()
    assert bench("collect", "--table", "cifar100", "--runs", filled, "--format", kind) == 0
    printed = capsys.readouterr()
    assert "passed over 1 entry" in printed.err
    assert list(tmp_path.iterdir()) == []
    if kind == "json":
        data = json.loads(printed.out)
        assert (data["schema"], data["table"], len(data["cells"])) == (1, "cifar100", 143)
        wanted = {"row", "column", "metric", "mean", "std", "n", "published", "delta", "verdict"}
        assert wanted | {"overrides", "runs"} <= set(data["cells"][0])
    else:
        lines = printed.out.splitlines()
        assert lines[0].startswith("table,row,group,column")
        assert len(lines) == 144


def test_several_formats_are_written(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "folder"
    words = ["--format", "json, md,tex,md", "--out", out, "--siunitx", "--also", "best"]
    assert bench("collect", "-t", "cifar100", "--runs", filled, *words) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "cifar100.json",
        "cifar100.md",
        "cifar100.tex",
    ]
    printed = capsys.readouterr().out
    assert printed.count(str(out)) == 3
    assert "best" in (out / "cifar100.md").read_text()
    assert "siunitx" in (out / "cifar100.tex").read_text()


def test_the_same_runs_give_the_same_files_anywhere(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    formats = "md,tex,csv,json"
    for name in ("one", "two"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache-{name}"))
        make_report("cifar100", runs_dir=filled).write(formats.split(","), tmp_path / name)
    for kind in formats.split(","):
        one, two = (tmp_path / name / f"cifar100.{kind}" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
    assert "bench collect --table cifar100 (kd-benchmark" in (
        (tmp_path / "one" / "cifar100.md").read_text().replace("&#45;", "-").replace("&#61;", "=")
    )


def test_columns_are_headed_as_in_the_paper(filled: Path, tmp_path: Path) -> None:
    make_report("cifar100", runs_dir=filled).write(["tex"], tmp_path)
    text = (tmp_path / "cifar100.tex").read_text()
    heads = r"\multicolumn{6}{c}{same architecture} & \multicolumn{5}{c}{different architectures}"
    assert heads in text
    check(text)


def test_columns_that_are_too_many_for_a_page_stand_below(filled: Path, tmp_path: Path) -> None:
    for also, parts in ((None, 0), ("best", 2)):
        make_report("cifar100", runs_dir=filled, also=also).write(["tex"], tmp_path)
        text = (tmp_path / "cifar100.tex").read_text()
        assert text.count(f"of {parts}).") == parts
        assert text.count(r"\label{tab:cifar100}") == 1
        check(text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--table", "cifar10"], "did you mean 'cifar100'"),
        (["--table", "cifar100", "--format", "pdf"], "unknown format 'pdf'"),
        (["--table", "cifar100", "--format", " , "], "--format is empty"),
        (["--table", "cifar100", "--runs-rows"], "--runs-rows goes with --format csv"),
        (["--table", "cifar100", "--protocol", "lst"], "did you mean 'last'"),
        (["--table", "cifar100", "--also", "worst"], "unknown protocol 'worst' in --also"),
        (["--table", "cifar100", "--only", "row=DKDD"], "did you mean 'DKD'"),
        (["--table", "cifar100", "--explain", "DKDD", COLUMN], "did you mean 'DKD'"),
        (["--table", "cifar100", "--explain", "DKD", "resnet56"], "unknown column 'resnet56'"),
        (["--table", "cifar100", "--explain", "DKD", COLUMN, "--protocol", "x"], "protocol 'x'"),
        (
            ["--table", "cifar100", "--explain", "DKD", COLUMN, "--format", "md", "--siunitx"],
            "--explain prints text and does not go with --format, --siunitx",
        ),
        (
            ["-t", "cifar100", "--explain", "DKD", COLUMN, "--also", "best", "--out", "x"],
            "--explain prints text and does not go with --also, --out",
        ),
        (
            ["--table", "cifar100", "--explain", "DKD", COLUMN, "--only", "row=KD"],
            f"--only leaves out DKD, {COLUMN}, which --explain asks for",
        ),
        (
            ["--table", "cifar100", "--explain", "DKD", COLUMN, "--only", "row=KDD"],
            "did you mean 'KD'",
        ),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(
    words: list[str], message: str, filled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("collect", *words, "--runs", filled) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err


def test_where_nothing_can_be_written_it_says_so(filled: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    report = make_report("cifar100", runs_dir=filled)
    with pytest.raises(UserError, match="cannot create"):
        report.write(["md"], tmp_path / "file")


def test_an_empty_answer_names_the_path_that_was_searched(tmp_path: Path) -> None:
    report = make_report("digits", runs_dir=tmp_path / "nowhere")
    assert report.notes == (f"no runs of digits in {tmp_path / 'nowhere'}",)
    assert "16 missing" in report.shown()


def test_what_is_not_counted_is_named_and_counted(tmp_path: Path) -> None:
    runs = runs_of(plan(seeds="0-6"), "KD")
    write(tmp_path / "runs", runs)
    for run in runs:
        edit(RunDir(tmp_path / "runs", run.key).result, schema=7)
    lines = make_report("cifar100", runs_dir=tmp_path / "runs").notes
    assert lines[0] == "7 run directories are not counted:"
    assert all("schema 7" in line for line in lines[1:6])
    assert lines[6].strip() == "and 2 more"


# -- the terminal ---------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 100, 200])
@pytest.mark.parametrize("statistics", [["last"], ["last", "best"]])
def test_the_table_fits_the_terminal(width: int, statistics: list[str], filled: Path) -> None:
    grid = judge(collected(filled).grid)
    text = show(grid, statistics, width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert " Teacher " in text
    for column in grid.columns:
        assert column.student_label in text
    found = grid.cells["FitNet", COLUMN, "top1"]
    assert f"{found.mean:.2f} ± {found.std:.2f}" in text


def test_a_cell_shows_ours_above_the_published_value_with_its_verdict() -> None:
    cells = {
        "A": measured([70.1, 70.2, 70.0, 70.1], published=published(70.1, n=5, statistic="last")),
        "B": measured([60.1], planned=3, published=published(65.0), overrides=("epochs = 1",)),
        "C": measured([70.0, 70.2], diverged_seeds=(2,), published=published(None)),
    }
    text = show(judge(small(cells)), width=80)
    assert "70.10 ± 0.08 (4)" in text
    assert "70.10 +0.00 ✓" in text
    assert "60.10 (1/3) *" in text
    assert "65.00 -4.90 ?" in text
    assert "70.10 ± 0.14 (2) !" in text
    assert "* with overrides" in text
    assert "! seeds diverged" in text
    assert "still filling" not in text


def test_a_table_that_is_still_filling_says_so() -> None:
    cells = {
        "A": measured([70.1], planned=3, state=State.RUNNING),
        "B": measured([70.1], planned=3, state=State.PARTIAL),
        "C": measured([], planned=3, state=State.QUEUED),
    }
    text = show(judge(small(cells)), width=80)
    assert "still filling: 1 running, 1 partial" in text
    assert " queued " in text


def test_a_difference_by_another_statistic_says_so() -> None:
    cells = {
        "A": measured([70.0, 70.2], best=[71.0, 71.2], published=published(71.1, statistic="best"))
    }
    grid = judge(small(cells))
    assert "71.10 +0.00 ? by best" in show(grid, ["last"], 80)
    first, second = show(grid, ["last", "best"], 80).split("by best")
    assert "71.10 +0.00 ?" in first + second
