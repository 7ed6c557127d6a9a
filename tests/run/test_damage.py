"""One runs directory with every kind of damage: one word for each run, and no command that falls.

Each damage is done to a copy of one real small run, beside a healthy neighbour, root's lost+found
and what else lies in people's directories.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import benchmark
from benchmark.base.files import write_json
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run, digest, identity_of, slug_of
from benchmark.run.reading import read
from benchmark.run.state import RunState
from benchmark.submission.marks import at_work, note_failure
from benchmark.submission.sent import local_work, own_folders
from tests import submitted
from tests.cli.command import Ended, bench
from tests.helpers import digits_plan, train
from tests.results.conftest import TINY
from tests.run.damages import (
    Damage,
    cases,
    truncated,
    unreadable,
)

STUDENT = ("row=Student",)


class World(NamedTuple):
    """A table of one row with three seeds: the first run is damaged, the second is done."""

    table: Path
    data: Path
    runs: list[Run]
    runs_dir: Path

    @property
    def victim(self) -> RunDir:
        return RunDir(self.runs_dir, self.runs[0].key)


@pytest.fixture(scope="module")
def original(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("original")
    table = root / "tiny.yaml"
    table.write_text(TINY.replace("seeds: [0, 1]", "seeds: [0, 1, 2]"))
    runs = list(digits_plan(digits, STUDENT, "0-2", (), str(table)).runs)
    train(runs[:2], digits, root / "runs", checkpoint_seconds=0.0)
    return World(table, digits, runs, root / "runs")


@pytest.fixture
def world(original: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    # Not below pytest's own folder, which others may not enter.
    root = Path(tempfile.mkdtemp(prefix="bench-damage-"))
    root.chmod(0o755)
    shutil.copytree(original.runs_dir, root / "runs")
    found = original._replace(runs_dir=root / "runs")
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(root / name))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # no Slurm
    submitted.local(found.runs_dir, found.data, [_pack(run) for run in found.runs[:2]])
    (found.runs_dir / "lost+found").mkdir(mode=0o700)
    (found.runs_dir / "notes").mkdir()
    (found.runs_dir / ".hidden").mkdir()
    (found.runs_dir / "README").write_text("ours")
    yield found
    for place, folders, _ in os.walk(root):
        for folder in folders:
            (Path(place) / folder).chmod(0o700)
    shutil.rmtree(root)


def _pack(run: Run) -> submitted.Pack:
    return submitted.Pack("tiny", (run,))


INLINE = ("--cluster", "inline")
CASES = [
    pytest.param(*case, id=f"{'done' if case[0] else 'open'}-{case[1]}-{case[2].__name__}")
    for case in cases()
]
FEW = [
    case
    for case in CASES
    if case.id
    in {
        "done-result-truncated",
        "done-result-newer",
        "open-cell-pipe",
        "open-provenance-huge",
        "open-failure-truncated",
        "done-path-a_file",
        "done-cell-gone",
        "done-result-infinite",
        "open-records-endless",
        "open-lease-silent_elsewhere",
        "open-cell-lost_while_held",
        "open-records-far",
    }
]


def damage_it(world: World, finished: bool, name: str, damage: Damage) -> None:
    rundir = world.victim
    if not finished:
        rundir.result.unlink()
    path = getattr(rundir, name)
    if not path.exists():
        path.write_text('{"schema": 1, "reason": "none", "count": 1}')
    damage(path)


PERMISSION = [case for case in CASES if case.values[2] is unreadable]  # root reads everything
OTHERS = [case for case in CASES if case not in PERMISSION]


@pytest.mark.parametrize(("finished", "name", "damage", "word"), OTHERS)
def test_each_damage_has_its_word(
    world: World, finished: bool, name: str, damage: Damage, word: RunState
) -> None:
    damage_it(world, finished, name, damage)
    found = read(world.victim)
    assert found.state is word, found
    assert bool(found.reason) == (word in (RunState.DAMAGED, RunState.FAILED))
    assert read(RunDir(world.runs_dir, "lost+found")).state is RunState.MISSING


def rewritten(world: World, path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_names_that_a_terminal_would_obey_are_no_runs(world: World) -> None:
    rundir = world.victim
    data = json.loads(rundir.cell.read_text())
    data["dataset"]["name"] = "digits\x1b[2J"
    identity = identity_of(data)
    forged = RunDir(world.runs_dir, f"{slug_of(identity)}-s0-{digest(identity)}")
    rundir.path.rename(forged.path)
    forged.cell.write_text(json.dumps(data))
    found = read(forged)
    assert found.state is RunState.DAMAGED
    assert "it holds control characters, 'digits\\x1b[2J'" in found.reason


def test_reasons_are_bounded_lines(world: World) -> None:
    rundir = world.victim
    rundir.result.unlink()
    rundir.failure.write_text(json.dumps({"schema": 1, "reason": "a\n\x1b[2J" + "x" * 99_999}))
    found = read(rundir)
    assert found.state is RunState.FAILED
    assert found.reason.startswith("a\\n\\x1b[2Jxxx")
    assert len(found.reason) < 2100


def test_a_cell_of_any_length_is_not_read(world: World) -> None:
    rewritten(world, world.victim.cell, more="x" * 1_000_001)
    found = read(world.victim)
    assert found.state is RunState.DAMAGED
    assert "it is not a file of this project" in found.reason


@pytest.mark.parametrize("line", ["[]", "[" * 100_000, "{", "1"])
def test_records_that_are_none_are_left_out_of_what_is_exported(world: World, line: str) -> None:
    with world.victim.records.open("a") as file:
        file.write(line + "\n")
    ended = bench(
        *("collect", "-t", world.table, "--runs", world.runs_dir, "--format", "csv"),
        *("--runs-rows", "--out", world.runs_dir.parent / "out"),
    )
    assert ended.code == 0, ended.err
    assert f"{world.victim.records}" in ended.err


def test_a_damaged_run_has_a_row_in_frames(world: World) -> None:
    truncated(world.victim.cell)
    frame = benchmark.to_frame(world.runs_dir).set_index("run")
    damaged, healthy = (frame.loc[run.key] for run in world.runs[:2])
    assert damaged["state"] == "damaged"
    assert str(world.victim.cell) in damaged["reason"]
    assert healthy["seed"] == 1
    assert str(frame["seed"].dtype) == "Int64"


# -- what commands say ----------------------------------------------------------------------


def commands(world: World) -> dict[str, list[str]]:
    """Return the command lines that look at a runs directory, by a name each."""
    runs = ["--runs", str(world.runs_dir)]
    both = [*runs, "--data", str(world.data)]
    table = ["--table", str(world.table)]
    only = ["--only", "row=Student"]
    return {
        "plan": ["plan", *table, *only, *both],
        "submit": ["submit", *table, *only, "--seeds", "0-1", *INLINE, "--dry-run", *both],
        "status": ["status", *table, "--json", *both],
        "collect": ["collect", *table, *only, "--format", "json", *runs],
        "explain": ["collect", *table, "--explain", "Student", "wrn_16_2-resnet8", *runs],
        "retry": ["retry", "--failed", "--dry-run", *runs],
        "clean": ["clean", "--dry-run", *runs],
        "metrics": ["metrics", "--textfile", str(world.runs_dir.parent / "m.prom"), *both],
    }


def check_words(world: World, ended: dict[str, Ended], word: RunState) -> None:
    """Check that every command has one word for the damaged run, and goes on to its neighbours."""
    key = world.victim.key
    damaged = word is RunState.DAMAGED
    for name, found in ended.items():
        # Nothing is left of what was selected.
        assert found.code == (2 if name == "submit" and damaged else 0), (name, found)
        assert "Traceback" not in found.err, (name, found)
    states = {RunState.DONE: 1, RunState.MISSING: 1}
    states[word] = states.get(word, 0) + 1
    (line,) = [s for s in ended["plan"].out.splitlines() if s.startswith("  runs in ")]
    told = line.rpartition(": ")[2].split(", ")
    assert {s.split()[1]: int(s.split()[0]) for s in told} == states
    done = 1 + (word is RunState.DONE)
    left = int(word in (RunState.MISSING, RunState.FAILED, RunState.STOPPED))
    told = f"move {world.victim.path} away" if damaged else f"{done} of 2 runs done, {left} to"
    assert told in ended["submit"].err
    (table,) = json.loads(ended["status"].out)["tables"]
    counted = {state: n for state, n in table["runs"].items() if n}
    # The table's other rows are missing, all of them.
    assert counted.pop("missing") >= states.pop("missing")
    assert counted == {str(state): n for state, n in states.items()}
    (cell,) = json.loads(ended["collect"].out)["cells"]
    assert cell["n"] == done
    assert (f"  {key}: " in ended["collect"].err) == damaged
    explained = [s.strip() for s in ended["explain"].out.splitlines()]
    mine = [s.removeprefix(f"{key}: ") for s in explained if s.startswith(f"{key}: ")]
    if word in (RunState.FAILED, RunState.STOPPED):
        assert [s.split(",")[0] for s in mine] == [word]
    retried = "would go to" in ended["retry"].out
    assert retried == (word in (RunState.FAILED, RunState.STOPPED)), ended["retry"].out
    assert ("damaged" in ended["retry"].out) == damaged
    cells = [
        s for s in (world.runs_dir.parent / "m.prom").read_text().splitlines() if "cells{" in s
    ]
    assert any(f'state="{word}"' in s and not s.endswith(" 0.0") for s in cells), cells


@pytest.mark.parametrize(("finished", "name", "damage", "word"), FEW)
def test_every_command_has_the_same_word(
    world: World, finished: bool, name: str, damage: Damage, word: RunState
) -> None:
    damage_it(world, finished, name, damage)
    ended = {name: bench(*words) for name, words in commands(world).items()}
    check_words(world, ended, word)


def test_what_was_killed_has_the_word_that_its_queue_noted(world: World) -> None:
    world.victim.result.unlink()
    (sent,) = own_folders(world.runs_dir)
    (work, _) = local_work(world.runs_dir)
    note_failure(sent, work.id, "killed by SIGKILL")
    ended = {name: bench(*words) for name, words in commands(world).items()}
    check_words(world, ended, RunState.FAILED)
    frame = benchmark.to_frame(world.runs_dir).set_index("run")
    assert frame.loc[world.victim.key]["state"] == "failed"
    write_json(sent.failures / f"{work.id}.json", {"schema": 1})  # broken: a failure still
    assert "1 failed" in bench(*commands(world)["plan"]).out


def test_what_a_living_queue_will_come_to_is_left_to_it(world: World) -> None:
    world.victim.result.unlink()
    (sent,) = own_folders(world.runs_dir)
    with at_work(sent.path):
        ended = {name: bench(*commands(world)[name]) for name in ("plan", "status")}
    assert "1 queued" in ended["plan"].out
    assert "; left to another process: 1 run" in ended["plan"].out
    (table,) = json.loads(ended["status"].out)["tables"]
    assert table["runs"]["queued"] == 1


@pytest.mark.parametrize("change", [{"table": 5}, {"created": "x"}, {"arrays": [{"gpus": "many"}]}])
def test_a_damaged_submission_is_named_and_costs_itself_alone(
    world: World, change: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    (sent,) = own_folders(world.runs_dir)
    submitted.local(world.runs_dir, world.data, [_pack(world.runs[2])])
    rewritten(world, sent.record, **change)
    assert [work.keys for work in local_work(world.runs_dir)] == [(world.runs[2].key,)]
    assert f"{sent.record} is damaged" in caplog.text
    status = bench("status", "--runs", world.runs_dir, "--data", world.data)
    assert (status.code, "Traceback" in status.err) == (0, False)


def neighbour(world: World, finished: bool, **changes: object) -> None:
    """Copy the second run as another version could have written it, under its right name."""
    origin = RunDir(world.runs_dir, world.runs[1].key)
    data = {**json.loads(origin.cell.read_text()), **changes}
    identity = identity_of(data)
    other = RunDir(world.runs_dir, f"{slug_of(identity)}-s1-{digest(identity)}")
    shutil.copytree(origin.path, other.path)
    other.cell.write_text(json.dumps(data))
    rewritten(world, other.result, key=other.key)
    if not finished:
        other.result.unlink()


@pytest.mark.slow
def test_neighbours_of_another_version_cost_no_command_its_answer(world: World) -> None:
    recipe = json.loads(RunDir(world.runs_dir, world.runs[1].key).cell.read_text())["recipe"]
    without = {name: value for name, value in recipe.items() if name != "input_size"}
    neighbour(world, True, recipe=without)
    neighbour(world, True, recipe={**recipe, "input_size": 10**399})
    neighbour(world, True, dataset={"name": "unheard", "digest": "0"})
    neighbour(world, False, recipe={**recipe, "epochs": 10**399})
    teacher = {"model": "wrn_16_2", "source": "train", "key": 2**63}
    neighbour(world, False, teacher=teacher)
    lines = commands(world) | {"all": ["status", "--runs", str(world.runs_dir)]}
    for name, words in lines.items():
        found = bench(*words)
        assert (found.code, "Traceback" in found.err) == (0, False), (name, found)


def test_what_is_healthy_is_trained(world: World) -> None:
    truncated(world.victim.result)
    before = world.victim.result.read_bytes()
    line = ["0-2" if w == "0-1" else w for w in commands(world)["submit"] if w != "--dry-run"]
    ended = bench(*line)
    assert (ended.code, "Traceback" in ended.err) == (1, False)
    assert f"move {world.victim.path} away to train it anew" in ended.err
    states = [read(RunDir(world.runs_dir, run.key)).state for run in world.runs]
    assert states == [RunState.DAMAGED, RunState.DONE, RunState.DONE]
    assert world.victim.result.read_bytes() == before
    refused = bench(*line)  # nothing else is left
    assert (refused.code, len(refused.err.splitlines())) == (2, 1)
    shutil.rmtree(world.victim.path)
    assert bench(*line).code == 0
    assert read(world.victim).state is RunState.DONE


AS_NOBODY = """
import importlib, json, os, pkgutil, sys
from pathlib import Path
for room in "base table run planning submission slurm monitor results operate cli".split():
    package = importlib.import_module(f"benchmark.{room}")
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if found.name != "benchmark.submission.task":
            importlib.import_module(found.name)
from benchmark.run.directory import RunDir
from benchmark.run.reading import read
from tests.cli.command import bench
words, rundirs = json.load(sys.stdin)
if os.geteuid() == 0:  # who may read everything
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
ended = {name: bench(*line) for name, line in words.items()}
json.dump([ended, [read(RunDir(Path(root), key)) for root, key in rundirs]], sys.stdout)
"""


@pytest.mark.slow
def test_what_may_not_be_read_is_damaged(world: World, original: World) -> None:
    place = world.runs_dir.parent
    shutil.copytree(world.data, place / "data")
    shutil.copy(world.table, place)
    for path in (place, world.runs_dir, place / "data"):
        path.chmod(0o777)
    readable = world._replace(table=place / world.table.name, data=place / "data")
    damage_it(world, True, "result", unreadable)
    rundirs = [world.victim, RunDir(world.runs_dir, "lost+found")]
    for number, (finished, name) in enumerate(((False, "cell"), (True, "path"))):
        other = world._replace(runs_dir=place / f"copy{number}")
        shutil.copytree(original.runs_dir, other.runs_dir)
        damage_it(other, finished, name, unreadable)
        rundirs.append(other.victim)
    places = [(str(rundir.root), rundir.key) for rundir in rundirs]
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY],
        input=json.dumps([commands(readable), places]),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    ended, found = json.loads(done.stdout)
    assert [state for _, state, *_ in found] == ["damaged", "missing", "damaged", "damaged"]
    assert all("Permission denied" in reason for _, state, reason, *_ in found if reason)
    check_words(readable, {name: Ended(*end) for name, end in ended.items()}, RunState.DAMAGED)
