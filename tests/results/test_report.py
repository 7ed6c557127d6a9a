"""What bench collect prints and writes: formats, remarks, explanations, the terminal's table."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from benchmark.cli import main
from benchmark.errors import UserError
from benchmark.results.grid import State
from benchmark.results.judge import judge
from benchmark.results.report import collect_table, explain_cell
from benchmark.results.terminal import show
from benchmark.rundir import RunDir
from benchmark.selection import Selection, parse_selection
from benchmark.tables import load_table
from benchmarks.synthetic_runs import write_runs
from tests.results.filled import COLUMN, collected, edit, plan, runs_of, write
from tests.results.grids import measured, published, small
from tests.results.latex_syntax import check
from tests.results.test_collect import GRID_COLUMN, fill_grid, grid_table


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one column of the CIFAR-100 table, some of them diverged or unfinished."""
    root = tmp_path_factory.mktemp("filled")
    write_runs(root, plan().table, 200)
    return root


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
        collect_table(
            "cifar100", Selection(), runs_dir=filled, formats=formats, out=tmp_path / name
        )
    for kind in formats.split(","):
        one, two = (tmp_path / name / f"cifar100.{kind}" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
    assert "bench collect --table cifar100 (kd-benchmark" in (
        (tmp_path / "one" / "cifar100.md").read_text().replace("&#45;", "-").replace("&#61;", "=")
    )


def test_columns_are_headed_as_in_the_paper(filled: Path, tmp_path: Path) -> None:
    collect_table("cifar100", Selection(), runs_dir=filled, formats="tex", out=tmp_path)
    text = (tmp_path / "cifar100.tex").read_text()
    heads = r"\multicolumn{6}{c}{same architecture} & \multicolumn{5}{c}{different architectures}"
    assert heads in text
    check(text)


def test_columns_that_are_too_many_for_a_page_stand_below(filled: Path, tmp_path: Path) -> None:
    for also, parts in ((None, 0), ("best", 2)):
        collect_table(
            "cifar100", Selection(), runs_dir=filled, formats="tex", also=also, out=tmp_path
        )
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
    with pytest.raises(UserError, match="cannot create"):
        collect_table("cifar100", Selection(), runs_dir=filled, out=tmp_path / "file")


def test_an_empty_answer_names_the_path_that_was_searched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = collect_table("digits", Selection(), runs_dir=tmp_path / "nowhere", out=tmp_path)
    assert f"no runs of digits in {tmp_path / 'nowhere'}" in capsys.readouterr().err
    assert "16 missing" in text


def test_what_is_not_counted_is_named_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = runs_of(plan(seeds="0-6"), "KD")
    write(tmp_path / "runs", runs)
    for run in runs:
        edit(RunDir(tmp_path / "runs", run.key).result, schema=7)
    collect_table("cifar100", Selection(), runs_dir=tmp_path / "runs", formats="json")
    lines = capsys.readouterr().err.splitlines()
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
    assert text.count(" Teacher ") * len(grid.columns) * len(statistics) >= len(grid.columns)
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
    assert "65.00 -4.90 ▼" in text
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


# -- explanations ---------------------------------------------------------------------------


def test_a_real_cell_is_explained_run_by_run(trained: Path) -> None:
    table = str(trained / "tiny.yaml")
    text = explain_cell(table, "KD", "wrn_16_2-resnet8", runs_dir=trained / "runs")
    for result in map(json.loads, map(Path.read_text, trained.glob("runs/*-kd-*/result.json"))):
        (line,) = [line for line in text.splitlines() if line.strip().startswith(result["key"])]
        assert f"last {result['metrics']['top1']['last']:.2f} %" in line
        assert f"seed {result['seed']}" in line
        assert f"commit {result['provenance']['commit'][:12]}" in line
        assert result["provenance"]["cpu"] in line
        assert result["teacher_digest"].removeprefix("sha256:")[:12] in line
    assert "option kd.temperature = 4.0 (the method's default)" in text
    assert f"recipe.epochs = 2 (set in the table; {load_table('digits').recipe} has" in text
    assert "recipe.schedule.milestones = [1] (set in the table" in text
    assert "published: 50, statistic unstated; printed; source: a guess" in text
    assert "another source prints 51.5 (+1.50): another guess" in text
    assert "the table's own" in text


def test_every_value_says_where_it_comes_from(filled: Path) -> None:
    column = "resnet32x4-shufflenetv2"
    text = explain_cell("cifar100", "ReviewKD", column, runs_dir=filled)
    for line in (
        "option reviewkd.weight = 8.0 (set for this column; source: ReviewKD repository,",
        "option reviewkd.first_epoch = 0 (set in this row; source: ReviewKD repository,",
        "option reviewkd.max_mid_channels = 512 (the method's default)",
        "recipe.lr = 0.02 (set for this row in this column; crd_240 has 0.05; source: ReviewKD",
        "recipe.batch_size = 128 (set in this row; crd_240 has 64;",
        "recipe.schedule.milestones = [151, 181, 211] (set in this row;",
    ):
        assert line in text
    text = explain_cell("cifar100", "ReviewKD", "vgg13-vgg8", runs_dir=filled)
    assert "assumed: in no script; mdistiller's default" in text
    assert "  assumed: reviewkd.weight (in no script; mdistiller's default)" in text
    text = explain_cell("cifar100", "KD", column, runs_dir=filled)
    assert "recipe.lr = 0.01 (set in this column; crd_240 has 0.05)" in text


@pytest.mark.parametrize("row", ["Teacher", "DHKD + ReviewKD"])
def test_every_field_of_the_recipe_is_listed_as_it_is_trained(row: str, tmp_path: Path) -> None:
    lines = explain_cell("cifar100", row, COLUMN, runs_dir=tmp_path).splitlines()
    told = {line.split(" = ")[0]: line.split(" = ")[1] for line in lines if " = " in line}
    run = runs_of(plan(), row)[0]
    for name, value in run.recipe.model_dump(mode="json").items():
        if name == "schedule":
            for part, inner in value.items():
                assert told[f"recipe.schedule.{part}"].startswith(f"{inner} (")
        elif name != "device":  # the table leaves it open
            assert told[f"recipe.{name}"].startswith(f"{value} (")
    for method in run.methods:
        for option, value in method.options.items():
            assert told[f"option {method.name}.{option}"].startswith(f"{value} (")


def test_an_explanation_honours_seeds_and_shows_what_is_asked_of_a_cell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, runs_of(plan(seeds="0-2"), "KD"), 70.3)  # published: 70.66
    whole = explain_cell("cifar100", "KD", COLUMN, runs_dir=tmp_path)
    assert "seeds: 0, 1, 2 (5 planned)" in whole
    part = explain_cell(
        "cifar100", "KD", COLUMN, parse_selection(["seed!=2", "row=KD"]), runs_dir=tmp_path
    )
    assert "seeds: 0, 1 (4 planned)" in part
    assert "-s2-" not in part
    (line,) = (line for line in part.splitlines() if line.strip().startswith("by last: "))
    assert "Holm's p = 0." in line
    assert re.search(r"underpowered \(\+\d+ seeds?\)", line)
    words = ["--explain", "KD", COLUMN, "--seeds", "0-1", "--runs", tmp_path]
    assert bench("collect", "-t", "cifar100", *words) == 0
    assert "seeds: 0, 1 (2 planned)" in capsys.readouterr().out


def test_what_other_sources_print_is_told(filled: Path) -> None:
    table = plan().table
    row, column, entry = next(
        (row, column, cell["top1"])
        for row, cells in table.published.items()
        for column, cell in cells.items()
        if cell["top1"].others
    )
    text = explain_cell("cifar100", row, column, runs_dir=filled)
    for other in entry.others:
        assert f"another source prints {other.value:g}" in text


def test_overrides_and_what_is_not_shown_are_explained(tmp_path: Path) -> None:
    own, short = plan(), plan(sets=("recipe.epochs=3", "method.kd.temperature=2"))
    write(tmp_path, [*short.teachers, *runs_of(short, "KD")[:2]])
    text = explain_cell("cifar100", "KD", COLUMN, runs_dir=tmp_path)
    assert "overrides: kd.temperature = 2.0; recipe.epochs = 3" in text
    assert "option kd.temperature = 4.0 (" in text
    assert "; the runs shown have 2.0" in text
    assert "recipe.epochs = 240 (recipe crd_240); the runs shown have 3" in text
    write(tmp_path, runs_of(own, "KD")[:1])
    write(tmp_path, runs_of(own, "KD")[1:2], finished=False)
    key = runs_of(own, "KD")[1].key
    reason = {"schema": 1, "reason": "no memory", "count": 1}
    RunDir(tmp_path, key).failure.write_text(json.dumps(reason))
    text = explain_cell("cifar100", "KD", COLUMN, runs_dir=tmp_path)
    assert "not shown: runs of" in text
    assert f"{key}: failed, 240 epochs done, last attempt: no memory" in text
    assert "overrides" not in text


def test_the_combinations_of_a_grid_are_explained(tmp_path: Path) -> None:
    table = grid_table(tmp_path, "test")
    fill_grid(tmp_path, table, [91.0, 92.0, 90.0], [80.0] * 3)
    text = explain_cell(table, "KD", GRID_COLUMN, runs_dir=tmp_path / "runs")
    assert "best of 3 combinations on the test set: temperature = 4" in text
    assert "the choice flatters by up to" in text
    assert "option kd.temperature = 4.0 (of the grid 2, 4, 8)" in text
    assert text.count("\nshown: runs of") == 1
    assert text.count("\nnot shown: runs of") == 2


def test_a_cell_without_runs_or_training_is_explained(tmp_path: Path) -> None:
    text = explain_cell("thesis-4", "Vanilla", "resnet34-resnet18", runs_dir=tmp_path)
    assert "option vanilla_kd.alpha = not chosen yet (of the grid 0.1, 0.3, 0.5" in text
    assert f"no runs of it in {tmp_path}" in text
    table = plan("deit", only=()).table
    row = next(row for row in table.rows if row.reference)
    text = explain_cell("deit", row.name, table.columns[0].name, runs_dir=tmp_path)
    assert "state: reference" in text
    assert "recipe" not in text


def test_an_odd_provenance_is_unknown_not_a_crash(tmp_path: Path) -> None:
    run = runs_of(plan(), "KD")[0]
    write(tmp_path, [run])
    edit(RunDir(tmp_path, run.key).result, provenance=["odd"], seconds="soon", restarts=None)
    assert "commit unknown, unknown hardware" in explain_cell(
        "cifar100", "KD", COLUMN, runs_dir=tmp_path
    )
