"""A bundle of real runs is checked to the last bit; what was tampered with is named."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmark.export import manifest
from benchmark.run.directory import RunDir
from benchmark.train.about import read_about
from tests.cli.command import Ended, bench
from tests.helpers import digits_plan, train_plan
from tests.results.conftest import cache as cache
from tests.results.filled import edit

TINY = """
schema: 1
name: tiny
title: Three epochs on digits
source: {paper: Nobody}
dataset: digits
recipe: digits_60
recipe_overrides: {epochs: 3, eval_every: 1, schedule: {milestones: [1, 2]}, keep_drops: true}
teacher: {from: train, seed: same}
seeds: [0]
columns: [{teacher: wrn_16_2, student: resnet8}]
rows:
  - {name: Teacher, of: teacher}
  - {name: Student, of: student}
  - {name: KD, methods: [kd]}
published:
  KD: {wrn_16_2-resnet8: {value: 50.0, source: a guess}}
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """Three real runs, and their bundle in a folder."""
    root = tmp_path_factory.mktemp("bundle")
    (root / "tiny.yaml").write_text(TINY)
    planned = digits_plan(digits, sets=(), table=str(root / "tiny.yaml"))
    train_plan(planned, digits, root / "runs")
    ended = bundle(root, root / "out")
    assert ended.code == 0, ended.err
    assert f"written: {root}/out, 3 runs" in ended.out
    return root


def bundle(root: Path, out: Path, *words: object) -> Ended:
    where = ("--table", root / "tiny.yaml", "--runs", root / "runs", "--out", out)
    return bench("bundle", *where, *words)


def audit(path: Path, data: Path, *words: object) -> Ended:
    return bench("audit", path, "--data", data, *words)


def test_a_bundle_holds_what_an_artifact_needs(written: Path, tmp_path: Path) -> None:
    out = written / "out"
    names = set(manifest.files_of(out))
    wanted = {"README.md", "table/tiny.yaml", "environment/packages.txt", "report/index.html"}
    assert wanted <= names
    assert {f"results/tiny.{kind}" for kind in ("md", "tex", "csv", "json")} <= names
    runs = {name.split("/")[1] for name in names if name.startswith("runs/")}
    assert len(runs) == 3
    for key in runs:
        for file in ("cell.json", "records.jsonl", "provenance.json", "result.json"):
            assert f"runs/{key}/{file}" in names
        assert f"runs/{key}/student.safetensors" in names
        assert f"runs/{key}/epoch0002.pt" in names  # the newest one of its row
        assert f"runs/{key}/epoch0001.pt" not in names
    assert "bench submit --table table/tiny.yaml --seeds 0" in (out / "README.md").read_text()
    for path in out.rglob("*"):  # nobody's folders
        assert not path.is_file() or str(written).encode() not in path.read_bytes(), path


def test_the_same_runs_give_the_same_file(written: Path, tmp_path: Path) -> None:
    ends = [bundle(written, tmp_path / f"{name}.tar", "--checkpoints", "none") for name in "ab"]
    assert ends[0].out.split("\n")[1] == ends[1].out.split("\n")[1]
    one, two = ((tmp_path / f"{name}.tar").read_bytes() for name in "ab")
    assert one == two
    assert "epoch0002.pt" not in str(one)
    again = bundle(written, written / "out")
    assert again.code == 2
    assert "is there already" in again.err


def test_a_whole_bundle_comes_out_again(written: Path, digits: Path, tmp_path: Path) -> None:
    digest = manifest.digest_of(written / "out" / manifest.NAME)
    ended = audit(written / "out", digits, "--replay", "all", "--digest", digest)
    assert ended.code == 0, ended.out
    assert not re.search("MISMATCH|not checked", ended.out)
    assert "students: 3 networks as accurate as recorded" in ended.out
    assert ended.out.count("epoch 3 from epoch0002.pt: the same to the last bit") == 3
    # Without checkpoints an epoch is trained from the seed.
    assert bundle(written, tmp_path / "small.tar", "--checkpoints", "none").code == 0
    ended = audit(tmp_path / "small.tar", digits)
    assert ended.code == 0, ended.out
    assert "epoch 1 from its seed: the same to the last bit" in ended.out


def test_without_data_it_says_what_was_not_checked(written: Path, tmp_path: Path) -> None:
    ended = audit(written / "out", tmp_path)
    assert ended.code == 3
    assert "MISMATCH" not in ended.out
    assert "write it: bench data write digits" in ended.out
    assert ended.out.count("not checked") == 4  # three networks and an epoch


def of(folder: Path, methods: str) -> RunDir:
    (found,) = (folder / "runs").glob(f"digits-*resnet8{methods}-s0-*")
    return RunDir(folder / "runs", found.name)


def better_result(folder: Path) -> str:
    rundir = of(folder, "-kd")
    metrics = rundir.read_result()["metrics"]
    metrics["top1"]["last"] = metrics["top1"]["best"] = 99.0
    edit(rundir.result, metrics=metrics)
    return "-kd-.*top1 last is 99.0, its epochs say"


def better_records(folder: Path) -> str:
    rundir = of(folder, "-kd")
    records = [r | {"test_top1": 99.0} for r in rundir.read_records()]
    rundir.records.write_text("".join(json.dumps(r) + "\n" for r in records))
    metrics = rundir.read_result()["metrics"]
    metrics["top1"] |= dict.fromkeys(metrics["top1"], 99.0) | {"last_5": [99.0] * 3}
    edit(rundir.result, metrics=metrics)
    return r"MISMATCH +students: .*-kd-.* here, 99.0000 % recorded"


def other_weights(folder: Path) -> str:
    path = of(folder, "-kd").weights
    about = {"about": json.dumps(read_about(path))}
    save_file({k: torch.zeros_like(v) for k, v in load_file(path).items()}, path, about)
    return "MISMATCH +students: .*-kd-.* recorded"


def another_table(folder: Path) -> str:
    path = folder / "results" / "tiny.json"
    told: dict[str, Any] = json.loads(path.read_text())
    (cell,) = (c for c in told["cells"] if c["row"] == "KD")
    cell["mean"] = 99.0
    path.write_text(json.dumps(told))
    return "KD, wrn_16_2-resnet8: mean is 99.0 in results, its runs give"


def another_page(folder: Path) -> str:
    path = folder / "results" / "tiny.tex"
    path.write_text(path.read_text().replace("50.0", "99.0"))
    return "MISMATCH +forms: results/tiny.tex is not what its runs give"


def more_epochs(folder: Path) -> str:
    path = folder / "results" / "tiny.epochs.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    return "MISMATCH +forms: results/tiny.epochs.csv is not what its runs give"


def another_recipe(folder: Path) -> str:
    path = of(folder, "").cell
    cell = json.loads(path.read_text())
    cell["recipe"]["epochs"] = 240
    path.write_text(json.dumps(cell))
    return "MISMATCH +results: .*the directory was renamed, copied or edited"


def another_loss(folder: Path) -> str:
    rundir = of(folder, "-kd")
    (first, *rest) = rundir.records.read_text().splitlines()
    (last,) = rest[1:]
    record = json.loads(last)
    record["losses"]["kd"] += 1e-6
    lines = [first, rest[0], json.dumps(record)]
    rundir.records.write_text("".join(f"{line}\n" for line in lines))
    return r"MISMATCH +replay: .*epoch 3 from epoch0002.pt: losses.kd is .* was recorded"


def another_version(folder: Path) -> str:
    rundir = of(folder, "")
    cell = json.loads(rundir.cell.read_text())
    cell["versions"]["engine"] += 1
    run = rundir.read_run().model_copy(update={"versions": cell["versions"]})
    fresh = RunDir(rundir.root, run.key)
    rundir.path.rename(fresh.path)
    fresh.cell.write_text(json.dumps(cell))
    edit(fresh.result, key=run.key)
    return r"MISMATCH +versions: .* was planned with version \d+ of engine"


TAMPERINGS = [
    better_result, better_records, other_weights, another_table, another_page, more_epochs,
    another_recipe, another_loss, another_version,
]  # fmt: skip


@pytest.mark.parametrize("tamper", TAMPERINGS)
def test_what_was_tampered_with_is_named(
    tamper: Callable[[Path], str], written: Path, digits: Path, tmp_path: Path
) -> None:
    """Also where whoever did it wrote the list of files anew; then its digest is another one."""
    folder = tmp_path / "bundle"
    shutil.copytree(written / "out", folder)
    known = manifest.digest_of(folder / manifest.NAME)
    told = tamper(folder)
    odd = list(manifest.differing(folder, manifest.read_manifest(folder)["files"]))
    assert odd
    about = {k: v for k, v in manifest.read_manifest(folder).items() if k != "files"}
    manifest.write_manifest(folder, about)
    replays = "all" if tamper is another_loss else "none"
    ended = audit(folder, digits, "--replay", replays, "--digest", known)
    assert ended.code == 1
    assert re.search(r"MISMATCH +manifest: it is sha256", ended.out)
    assert "MISMATCH     files" not in ended.out
    assert re.search(told, ended.out), ended.out


def test_a_file_that_is_not_as_listed_is_named(written: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(written / "out", folder)
    (folder / "results" / "tiny.tex").write_text("99.0")
    (folder / "results" / "more.tex").write_text("99.0")
    ended = audit(folder, tmp_path / "no-data", "--replay", "none")
    assert ended.code == 1
    assert "MISMATCH     files: results/tiny.tex was changed" in ended.out
    assert "MISMATCH     files: results/more.tex is not listed" in ended.out
