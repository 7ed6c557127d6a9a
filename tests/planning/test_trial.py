"""What cannot start is refused before the queue, and what can is not built twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.planning import trial
from benchmark.planning.trial import check_trials
from tests.helpers import digits_plan

TABLE = """\
schema: 1
name: trial
source: {paper: none}
dataset: digits
recipe: digits_60
teacher: {from: train, seed: same}
seeds: [0]
columns: [{teacher: TEACHER, student: STUDENT}]
rows: [{name: Row, methods: [METHOD]}]
"""
VIT = "timm:vit_tiny_patch16_224"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/kd-benchmark/trials.json"


def written(folder: Path, teacher: str, student: str, method: str) -> Path:
    path = folder / "trial.yaml"
    text = TABLE.replace("TEACHER", teacher).replace("STUDENT", student)
    path.write_text(text.replace("METHOD", method))
    return path


def check(folder: Path, data: Path, teacher: str, student: str, method: str, *sets: str) -> None:
    path = written(folder, teacher, student, method)
    check_trials(digits_plan(data, sets=sets, table=str(path)).runs, data)


@pytest.mark.parametrize(
    ("teacher", "student", "method", "sets", "message"),
    [
        ("wrn_16_2", "resnet8", "fsp", [], r"digits-wrn_16_2-resnet8-fsp cannot be trained: .*"),
        (
            *("wrn_16_2", "mobilenetv2", "kd", ["recipe.batch_size=33"]),
            r"100 training images in batches of 33 leave a last batch of one, and mobilenetv2",
        ),
        (
            *("wrn_16_2", "resnet8", "dhkd", ["recipe.batch_size=33"]),
            "leave a last batch of one, and dhkd cannot be trained on one image .*two images",
        ),
        (
            *("wrn_16_2", "resnet8", "srrl", ["recipe.batch_size=33"]),
            "leave a last batch of one, and srrl cannot be trained on one image",
        ),
        (
            *("wrn_16_2", "resnet8", "reviewkd", ["recipe.batch_size=33"]),
            "leave a last batch of one, and reviewkd cannot be trained on one image",
        ),
        ("wrn_16_2", VIT, "kd", [], rf"{VIT} cannot read images of 8 x 8 pixels .*input_size"),
        (
            *("wrn_16_2", "resnet8", "kd", ["recipe.batch_size=200", "recipe.drop_last=true"]),
            "a batch of 200 is larger than the 100 training images",
        ),
        ("wrn_16_2", "resnet8", "kd", ["recipe.holdout=100"], "cannot hold out 100 of 100"),
        (
            *("wrn_16_2", "resnet8", "kd", ["recipe.batch_size=24", "recipe.replicas=6"]),
            "the last batch of an epoch has 4 images for 6 replicas; set recipe.drop_last",
        ),
        (
            *("wrn_16_2", "mobilenetv2", "kd", ["recipe.batch_size=24", "recipe.replicas=4"]),
            "one of 4 replicas gets one image of a batch, and mobilenetv2 cannot be trained",
        ),
    ],
)
def test_what_cannot_start_is_refused(
    tmp_path: Path,
    digits: Path,
    teacher: str,
    student: str,
    method: str,
    sets: list[str],
    message: str,
) -> None:
    with pytest.raises(UserError, match=message):
        check(tmp_path, digits, teacher, student, method, *sets)


def test_what_can_start_is_not_refused(tmp_path: Path, digits: Path) -> None:
    for method in ("kd", "fsp", "crd", "simkd", "ft"):
        check(tmp_path, digits, "resnet14", "resnet8", method, "recipe.batch_size=33")
    check(tmp_path, digits, "wrn_16_2", "mobilenetv2", "kd", "recipe.batch_size=32")


def test_what_was_tried_is_remembered(
    tmp_path: Path, digits: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(tmp_path, digits, "wrn_16_2", "resnet8", "kd")
    with monkeypatch.context() as patched:
        patched.setattr(trial, "_tried", None)  # would be called
        check(tmp_path, digits, "wrn_16_2", "resnet8", "kd")
    for content in ("", "[" * 100_000, '{"passed": 1}', '{"passed": ["other"]}'):
        cache.write_text(content)
        check(tmp_path, digits, "wrn_16_2", "resnet8", "kd")


@pytest.mark.slow
def test_it_needs_no_torch_here(tmp_path: Path, digits: Path) -> None:
    path = written(tmp_path, "wrn_16_2", "mobilenetv2", "kd")
    program = """
import sys
from pathlib import Path
from benchmark.planning.matrix import Context, make_plan
from benchmark.planning.trial import check_trials
from benchmark.table.load import load_table
from benchmark.table.selection import parse_selection
table, data = load_table(sys.argv[1]), Path(sys.argv[2])
selection = parse_selection([], "0", ["recipe.batch_size=33"])
plan = make_plan(table, selection, Context(data, "cpu"))
try:
    check_trials(plan.runs, data)
finally:
    assert "torch" not in sys.modules
"""
    command = [sys.executable, "-c", program, str(path), str(digits)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "leave a last batch of one" in done.stderr
