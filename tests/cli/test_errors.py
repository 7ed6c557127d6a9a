"""Wrong use: one line that begins with ``error:``, exit code 2, nothing lost, no traceback."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmark.run.directory import RunDir, all_rundirs
from tests.cli.command import Ended, bench
from tests.helpers import digits_plan
from tests.tables.test_bad_files import CELL, COLUMN, GOOD
from tests.train.test_state import Hostile


def refused(ended: Ended, *words: str) -> None:
    """The command must have ended as wrong use does, with these words in its one line."""
    assert ended.code == 2, ended
    lines = ended.err.splitlines()
    assert len(lines) == 1, ended.err
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in ended.err + ended.out


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Path) -> None:
    """Commands run in an empty folder, with the digits as their data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_DATA", str(digits))
    monkeypatch.setenv("BENCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("BENCH_TEACHERS", str(tmp_path / "teachers"))


# -- the command line itself ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["submit"], "Missing option '--table'"),
        (["plan", "--table"], "--table"),
        (["submit", "--table", "digits", "extra"], "unexpected extra argument"),
        (["data", "nosuch"], "No such command 'nosuch'"),
        (["plan", "--table", "digits", "--seedz", "3"], "No such option: --seedz"),
        (["sbmit"], "No such command 'sbmit'"),
        (["plan", "--table", "digits", "--slots", "none"], "Invalid value for '--slots'"),
    ],
)
def test_words_that_no_command_knows(words: list[str], message: str) -> None:
    refused(bench(*words), message, "--help`")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--simulate", "default", "--json"], "--simulate prints text and does not go with --json"),
        (["--slots", "4"], "--slots, --preemptions and --start-seconds go with --simulate PROFILE"),
        (["--preemptions", "1"], "go with --simulate PROFILE"),
    ],
)
def test_options_that_do_not_go_together(words: list[str], message: str) -> None:
    refused(bench("plan", "--table", "digits", *words), message)


# -- tables and selections ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("dataset: digits", "dataset: digits\ncolour: red", ("unknown key 'colour'",)),
        ("{name: KD, methods: [{kd:", "{name: KD, methods: [{kdd:", ("did you mean 'kd'?",)),
        ("{temperature: 2.0}", "{temprature: 2.0}", ("did you mean 'temperature'?",)),
        (CELL, "{value: about 70, source: poster}", ("value", "number", "about 70")),
        (COLUMN, COLUMN + COLUMN, ("two columns are named",)),
        (
            "{from: train, seed: same}",
            "{from: train, distilled: {wrn_16_2: {teacher: wrn_16_2, methods: [kd]}}}",
            ("cycle (wrn_16_2 -> wrn_16_2)",),
        ),
        ("schema: 1", "schema: [", ("line",)),
    ],
)
@pytest.mark.parametrize("command", ["check", "plan", "submit", "collect"])
def test_a_wrong_table(
    tmp_path: Path, command: str, old: str, new: str, words: tuple[str, ...]
) -> None:
    assert old in GOOD
    Path("small.yaml").write_text(GOOD.replace(old, new, 1))
    refused(bench(command, "--table", "small.yaml"), *words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan", "--table", "cifar10"], ("unknown table 'cifar10'", "did you mean 'cifar100'?")),
        (["submit", "--table", "nosuch.yaml"], ("nosuch.yaml does not exist",)),
        (["check", "--table", ""], ("unknown table ''",)),
        (["plan", "--table", "digits", "--only", "row=KDD"], ("did you mean 'KD'?",)),
        (["submit", "--table", "digits", "--only", "method=crd"], ("matches nothing",)),
        (["plan", "--table", "digits", "--only", "kd"], ("expected KEY=VALUE",)),
        (["plan", "--table", "digits", "--seeds", "4-0"], ("did you mean 0-4?",)),
        (["plan", "--table", "digits", "--set", "recipe.epoch=1"], ("did you mean 'epochs'?",)),
        (["plan", "--table", "digits", "--pack", "0"], ("--pack 0",)),
        (["plan", "--table", "digits", "--pack", "²"], ("--pack ²",)),
        (["submit", "--table", "digits", "--cluster", "slrum"], ("did you mean 'slurm'?",)),
        (["submit", "--table", "digits", "--cluster", "inline", "--profile", "x"], ("--profile",)),
        (["plan", "--table", "digits", "--plugin", "mine.py"], ("mine.py does not exist",)),
        (["check", "--plugin", "mine.py"], ("mine.py does not exist",)),
        (["submit", "--table", "digits", "--cluster", "inline", "--reader", "ffvc"], ("'ffcv'?",)),
        (
            ["submit", "--table", "imagenet", "--cluster", "inline", "--reader", "resident"],
            ("ffcv reader",),
        ),
        (["data", "write", "digit"], ("did you mean 'digits'?",)),
        (["data", "verify", "cifar100"], ("cifar100",)),
        (["data", "write", "cifar100", "nowhere"], ("nowhere",)),
        (["teachers", "verify"], ("no checkpoint is on this machine",)),
        (["teachers", "verify", "resnet57"], ("did you mean",)),
        (["collect", "--table", "digits", "--format", "docx"], ("docx",)),
        (["collect", "--table", "digits", "--protocol", "worst"], ("worst",)),
        (["cancel"], ("say what to cancel",)),
        (["cancel", "--all", "--table", "digits"], ("say what to cancel",)),
        (["cancel", "--table", "digit"], ("did you mean 'digits'",)),
        (["retry"], ("--failed, --cancelled, or both",)),
        (["logs", "nothing-like-it"], ("no run 'nothing-like-it'",)),
        (["clean", "--older-than", "-1"], ("--older-than",)),
        (["status", "--watch", "--json"], ("--json prints once",)),
        (["init", "slurm", "--profile", "a b"], ("letters, digits",)),
        (["metrics", "--textfile", "/tmp"], ("/tmp is a directory; name a file in it",)),
    ],
)
def test_wrong_words(arguments: list[str], words: tuple[str, ...]) -> None:
    refused(bench(*arguments), *words)


LATER = """\
schema: 1
name: later
source: {paper: none}
dataset: digits
recipe: digits_60
teacher: {from: train, seed: same}
seeds: [0]
columns: [{teacher: resnet8, student: "STUDENT"}]
rows: [{name: Row, methods: [METHOD]}]
"""
VIT = "timm:vit_tiny_patch16_224"


@pytest.mark.parametrize(
    ("student", "method", "sets", "words"),
    [
        pytest.param(
            VIT, "fsp", ["recipe.input_size=32"], ("cannot be trained: fsp", "maps"), id="maps"
        ),
        pytest.param(
            VIT,
            "kd",
            [],
            ("cannot read images of 8 x 8 pixels", "set recipe.input_size"),
            id="size",
        ),
        pytest.param(
            *("resnet8", "kd", ["recipe.holdout=101"], ("cannot hold out 101 of 100",)),
            id="holdout",
        ),
        pytest.param(
            *("resnet8", "kd", ["recipe.device=cuda"], ("this machine shows none",)),
            id="device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device"),
        ),
    ],
)
def test_what_would_fail_later_is_refused_before_the_queue(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    student: str,
    method: str,
    sets: list[str],
    words: tuple[str, ...],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Path("later.yaml").write_text(LATER.replace("STUDENT", student).replace("METHOD", method))
    changes = [word for one in sets for word in ("--set", one)]
    refused(bench("submit", "--table", "later.yaml", "--cluster", "local", *changes), *words)
    assert not list(all_rundirs(tmp_path / "runs"))


def test_a_plugin_that_is_none(tmp_path: Path) -> None:
    for number, (text, word) in enumerate(_NO_PLUGINS):
        path = tmp_path / f"mine{number}.py"
        path.write_text(text)
        refused(bench("plan", "--table", "digits", "--plugin", path), path.name, word)


_NO_PLUGINS = (
    ("x = 1", "no class Options"),
    ("def (", "cannot read"),
    ("class Options: pass\nclass M(Method): pass", "must derive from MethodOptions"),
    (
        "from benchmark.methods.options import MethodOptions\n"
        "class Options(MethodOptions):\n    size: int = torch.tensor(1)\n"
        "class M(Method): pass",
        "must be readable without torch",
    ),
    (
        "from benchmark.methods.options import MethodOptions\n"
        "class Options(MethodOptions):\n    size: int = 1 / 0\nclass M(Method): pass",
        "division by zero",
    ),
)


# -- data, teachers, directories ------------------------------------------------------------------

SUBMIT = ("submit", "--table", "digits", "--cluster", "inline", "--only", "row=Student")


def test_data_that_is_not_there(tmp_path: Path) -> None:
    refused(bench(*SUBMIT, "--data", tmp_path / "none"), "bench data write digits --data")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("kind", ["truncated", "text", "gone", "sidecar", "pixel"])
def test_data_that_is_damaged(tmp_path: Path, digits: Path, kind: str) -> None:
    shutil.copytree(digits, tmp_path / "data")
    path = tmp_path / "data" / "digits" / "train.beton"
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    elif kind == "text":
        path.write_text("hello")
    elif kind == "gone":
        path.unlink()
    elif kind == "pixel":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    else:
        (path.parent / "dataset.json").write_text("{")
    for command in (SUBMIT, ("data", "verify", "digits")):
        refused(bench(*command, "--data", tmp_path / "data"), str(path.parent))


def test_a_hostile_cifar_pickle(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name in ("train", "test", "meta"):
        (folder / name).write_bytes(pickle.dumps({b"data": Hostile(witness)}))
    for flags in ((), ("--allow-altered",)):
        ended = bench("data", "write", "cifar100", folder, *flags, "--data", tmp_path / "data")
        refused(ended, "cifar-100-python")
    assert not witness.exists()


@pytest.mark.parametrize("kind", ["hostile", "truncated", "foreign", "classes"])
def test_a_teacher_file_that_is_wrong(tmp_path: Path, kind: str, fixtures: Path) -> None:
    from benchmark.models import build_model
    from benchmark.table.teachers import registered

    written = bench(
        "data",
        "write",
        "cifar100",
        fixtures / "data" / "cifar-100-python",
        "--allow-altered",
        "--data",
        tmp_path / "data",
    )
    assert written.code == 0, written
    teacher = registered("cifar100", "resnet8x4") or registered("cifar100", "resnet56")
    assert teacher is not None
    path = tmp_path / "teachers" / teacher.file
    path.parent.mkdir(parents=True)
    witness = tmp_path / "witness"
    model = build_model(teacher.model, 10 if kind == "classes" else 100)
    content = {"model": model.state_dict()} if kind != "hostile" else {"model": Hostile(witness)}
    torch.save({"epoch": 1} if kind == "foreign" else content, path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    words = {"classes": "is for 10 classes, the model for 100"}.get(kind, str(path.name))
    data = ("--data", tmp_path / "data")
    refused(bench("teachers", "verify", teacher.model, *data), words)
    submit = ("submit", "--table", "cifar100", "--cluster", "inline", "--only", "method=kd")
    refused(bench(*submit, "--only", f"teacher={teacher.model}", *data), words)
    assert not witness.exists()
    assert not (tmp_path / "runs").exists()


def test_a_runs_directory_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("in the way")
    refused(bench(*SUBMIT), str(tmp_path / "runs"))
    refused(bench(*SUBMIT, "--runs", tmp_path / "runs" / "deeper"), str(tmp_path / "runs"))


def test_a_run_directory_of_other_numbers_is_left_as_it_is(tmp_path: Path, digits: Path) -> None:
    (run,) = digits_plan(digits, ["row=Student", "student=resnet8"], sets=["recipe.epochs=1"]).runs
    rundir = RunDir(tmp_path / "runs", run.key)
    rundir.create(run.model_copy(update={"versions": run.versions | {"engine": 0}}))
    only = ("--only", "student=resnet8", "--seeds", "0", "--set", "recipe.epochs=1")
    before = rundir.cell.read_text()
    words = "the directory was renamed, copied or edited"
    refused(bench(*SUBMIT, *only), str(rundir.cell), words)
    assert rundir.cell.read_text() == before


SHORT = ("--only", "student=resnet8", "--seeds", "0", "--set", "recipe.epochs=1")


def test_a_finished_run_that_collect_could_not_count(tmp_path: Path) -> None:
    assert bench(*SUBMIT, *SHORT).code == 0
    (rundir,) = all_rundirs(tmp_path / "runs")
    whole = json.loads(rundir.result.read_text())
    for wrong, word in (
        (whole | {"key": "another"}, "is the result of another"),
        (whole | {"metrics": {}}, "has no top1"),
    ):
        rundir.result.write_text(json.dumps(wrong))
        refused(bench(*SUBMIT, *SHORT), word, f"move {rundir.path} away")
    rundir.result.write_text(json.dumps(whole))
    rundir.cell.unlink()
    refused(bench(*SUBMIT, *SHORT), "no cell.json", f"move {rundir.path} away")


def test_files_that_a_run_could_not_start_from(tmp_path: Path, digits: Path) -> None:
    plan = digits_plan(digits, ["row=KD", "student=resnet8"], sets=["recipe.epochs=1"])
    teacher, student = (RunDir(tmp_path / "runs", run.key) for run in plan.runs)
    submit = ("submit", "--table", "digits", "--cluster", "inline", *SHORT)
    assert bench(*submit, "--only", "row=Teacher").code == 0
    kd = (*submit, "--only", "row=KD")
    content = teacher.weights.read_bytes()
    teacher.weights.write_bytes(content[:-100])
    refused(bench(*kd), str(teacher.weights))
    teacher.weights.write_bytes(content)
    student.create(plan.runs[1])
    witness = tmp_path / "witness"
    torch.save({"schema": 1, "key": student.key, "x": Hostile(witness)}, student.checkpoint)
    refused(bench(*kd), str(student.checkpoint), "which is no weight", "move the run directory")
    assert not witness.exists()
    submissions = (tmp_path / "runs" / ".submissions").iterdir()
    assert len(list(submissions)) == 1  # the teacher's


@pytest.mark.parametrize("words", [["plan"], ["status"], ["collect"]])
def test_a_runs_directory_that_is_a_link_to_itself_is_one_line(
    tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    refused(bench(*words, "--table", "digits", "--runs", "loop"), "loop: ")


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        ended = bench(*SUBMIT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ended.code == 2
    last = ended.err.splitlines()[-1]
    assert last.startswith(f"error: {tmp_path}/runs/.submissions/")
    assert last.endswith(": File too large")
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    "encoding",
    ["ascii", *(pytest.param(name, marks=pytest.mark.slow) for name in ("latin-1", "utf-8"))],
)
def test_any_terminal_shows_what_is_said(tmp_path: Path, encoding: str) -> None:
    asked = ["collect", "--table", "cifar100", "--runs", str(tmp_path)]
    for words in ([*asked, "--explain", "KD", "vgg13-vgg8"], asked):
        done = subprocess.run(
            [sys.executable, "-c", "from benchmark.cli import main; main()", *words],
            capture_output=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONIOENCODING": encoding},
            check=False,
        )
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
        assert done.stdout.decode(encoding)
