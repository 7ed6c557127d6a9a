"""Killed without warning, anywhere: the finished run equals the undisturbed one, bit for bit."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.methods.catalog import add_plugin
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from tests.helpers import digits_plan, numbers
from tests.train.mortal import Undertaker

pytestmark = pytest.mark.slow
COLUMN = "column=wrn_16_2-resnet8"


@pytest.fixture(scope="module")
def undertaker() -> Iterator[Undertaker]:
    found = Undertaker()
    yield found
    found.close()


def test_killed_at_random_moments(digits: Path, tmp_path: Path, undertaker: Undertaker) -> None:
    # Dropout and a gradient rule (dhkd), a first stage (ft), an extra memory (crd).
    table = tmp_path / "mine.yaml"
    methods = ("dhkd", "crd", "ft")
    rows = "".join(f"  - {{name: my {m}, methods: [{m}]}}\n" for m in methods)
    table.write_text(f"schema: 1\nname: mine\nbase: digits\nrows:\n{rows}")
    sets = ["recipe.epochs=4", "recipe.eval_every=1", "recipe.schedule.milestones=[2]"]
    sets += ["recipe.probes=conflict"]
    only = [COLUMN, *(f"row=my {m}" for m in methods)]
    plan = digits_plan(digits, only, sets=sets, table=str(table))
    teacher, *students = plan.runs
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    undertaker.start([teacher], digits, undisturbed)
    assert undertaker.wait()["code"] == 0
    shutil.copytree(undisturbed / teacher.key, killed / teacher.key)
    began = time.monotonic()
    undertaker.start(students, digits, undisturbed)
    assert undertaker.wait()["code"] == 0
    duration = time.monotonic() - began
    chance = random.Random(1)
    kills = 0
    while True:
        pid = undertaker.start(students, digits, killed)
        if kills < 40:
            time.sleep(chance.uniform(0, duration / 8))
            with contextlib.suppress(ProcessLookupError):  # it was quicker
                os.kill(pid, signal.SIGKILL)
        ended = undertaker.wait()
        if ended["signal"] is None:
            assert ended["code"] == 0
            break
        kills += 1
    assert kills >= 20
    for run in students:
        assert numbers(killed, run) == numbers(undisturbed, run), run.key
        assert probed(killed, run) == probed(undisturbed, run), run.key
        result = RunDir(killed, run.key).read_result()
        assert result["restarts"] > 0


def probed(runs_dir: Path, run: Run) -> list[dict[str, Any]]:
    """Return what a run's probes recorded, but for how long it took."""
    lines = RunDir(runs_dir, run.key).read_probes()
    assert len(lines) == 4
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


EXTENDED = Path(__file__).parent / "extended"


def test_killed_within_turns_cycles_and_runs_without_images(
    digits: Path, tmp_path: Path, undertaker: Undertaker
) -> None:
    methods = ("critic", "cycle_copy", "no_images", "three_companions", "two_peers")
    plugins = [EXTENDED / f"{name}.py" for name in methods]
    for path in plugins:
        add_plugin(path)
    table = tmp_path / "mine.yaml"
    rows = "".join(f"  - {{name: my {m}, methods: [{m}]}}\n" for m in methods)
    table.write_text(f"schema: 1\nname: mine\nbase: digits\nrows:\n{rows}")
    sets = ["recipe.epochs=4", "recipe.eval_every=1", "recipe.schedule.milestones=[2]"]
    sets += ["method.cycle_copy.cycle=2"]
    only = [COLUMN, *(f"row=my {m}" for m in methods)]
    plan = digits_plan(digits, only, sets=sets, table=str(table))
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    teachers = [run for run in plan.runs if run.key in {t.key for t in plan.teachers}]
    students = [run for run in plan.runs if run not in teachers]
    undertaker.start(teachers, digits, undisturbed)
    assert undertaker.wait()["code"] == 0
    for run in teachers:
        shutil.copytree(undisturbed / run.key, killed / run.key)
    chance = random.Random(2)
    killings = 0
    for run in students:
        began = time.monotonic()
        undertaker.start([run], digits, undisturbed, plugins=plugins)
        assert undertaker.wait()["code"] == 0
        duration = time.monotonic() - began
        for kills in range(1000):
            pid = undertaker.start([run], digits, killed, plugins=plugins)
            if kills < 8:
                time.sleep(chance.uniform(0, duration / 8))
                with contextlib.suppress(ProcessLookupError):  # it was quicker
                    os.kill(pid, signal.SIGKILL)
            if undertaker.wait()["signal"] is None:
                break
        killings += kills
        assert numbers(killed, run) == numbers(undisturbed, run), run.key
    assert killings >= 20


# Of each kind what moves between steps: peers and branches, averages of weights, several optimisers
# and turns, copies renewed in cycles, stores of answers, a run that reads no image.
TOGETHER = (
    *("dml", "kdcl", "afd", "okddip", "one", "cl_ilr", "ffl", "pcl", "rocket", "byot", "dks"),
    *("snapshot", "pskd", "cskd", "ddgsd", "dlb", "class_distance", "uskd", "zskt"),
)


def test_every_method_that_teaches_itself_or_its_peers_is_killed(
    digits: Path, tmp_path: Path, undertaker: Undertaker
) -> None:
    table = tmp_path / "mine.yaml"
    rows = "".join(f"  - {{name: my {m}, methods: [{m}]}}\n" for m in TOGETHER)
    table.write_text(f"schema: 1\nname: mine\nbase: digits\nrows:\n{rows}")
    sets = ["recipe.epochs=2", "recipe.eval_every=1", "recipe.schedule.milestones=[1]"]
    sets += ["method.dml.updates=alternating", "method.zskt.student_steps=2"]
    sets += ["method.zskt.attention_weight=0", "method.snapshot.cycles=2"]
    only = [COLUMN, *(f"row=my {m}" for m in TOGETHER)]
    plan = digits_plan(digits, only, sets=sets, table=str(table))
    teacher, *students = plan.runs
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    undertaker.start([teacher], digits, undisturbed)
    assert undertaker.wait()["code"] == 0
    shutil.copytree(undisturbed / teacher.key, killed / teacher.key)
    chance = random.Random(3)
    # A pack has one teacher, and all but one of them have none.
    for taught, most in ((False, 6), (True, 6)):
        pack = [run for run in students if (run.teacher is not None) == taught]
        began = time.monotonic()
        undertaker.start(pack, digits, undisturbed)
        assert undertaker.wait()["code"] == 0
        duration = time.monotonic() - began
        for kills in range(1000):
            pid = undertaker.start(pack, digits, killed)
            if kills < most:
                time.sleep(chance.uniform(0, 0.7 * duration))
                with contextlib.suppress(ProcessLookupError):  # it was quicker
                    os.kill(pid, signal.SIGKILL)
            if undertaker.wait()["signal"] is None:
                break
        assert kills >= 2
    for run in students:
        assert numbers(killed, run) == numbers(undisturbed, run), run.methods
        assert not RunDir(killed, run.key).read_result()["diverged"], run.methods


def test_killed_while_first_stages_of_a_method_s_own_train(
    digits: Path, tmp_path: Path, undertaker: Undertaker
) -> None:
    """What MHGD and FSP learn before the student does, of networks with equal channels."""
    methods = ("mhgd", "fsp")
    table = tmp_path / "mine.yaml"
    table.write_text(
        "schema: 1\nname: mine\nsource: {paper: nothing}\ndataset: digits\nrecipe: digits_60\n"
        "protocol: {report: last}\nteacher: {from: train, seed: same}\nseeds: [0]\n"
        "columns:\n  - {teacher: wrn_16_1, student: resnet8}\nrows:\n"
        + "".join(f"  - {{name: {m}, methods: [{m}]}}\n" for m in methods)
    )
    sets = ["recipe.epochs=2", "recipe.eval_every=1", "recipe.schedule.milestones=[1]"]
    sets += [f"method.{m}.prepare_epochs=3" for m in methods]
    plan = digits_plan(digits, sets=sets, table=str(table))
    teacher, *students = plan.runs
    assert len(students) == len(methods)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    undertaker.start([teacher], digits, undisturbed)
    assert undertaker.wait()["code"] == 0
    shutil.copytree(undisturbed / teacher.key, killed / teacher.key)
    began = time.monotonic()
    undertaker.start(students, digits, undisturbed)
    assert undertaker.wait()["code"] == 0
    duration = time.monotonic() - began
    chance = random.Random(4)
    for kills in range(1000):
        pid = undertaker.start(students, digits, killed)
        if kills < 12:
            time.sleep(chance.uniform(0, 0.5 * duration))
            with contextlib.suppress(ProcessLookupError):  # it was quicker
                os.kill(pid, signal.SIGKILL)
        if undertaker.wait()["signal"] is None:
            break
    assert kills >= 3
    for run in students:
        assert numbers(killed, run) == numbers(undisturbed, run), run.methods
        assert RunDir(killed, run.key).read_result()["restarts"] > 0


def test_killed_before_every_file_operation(
    digits: Path, tmp_path: Path, undertaker: Undertaker
) -> None:
    sets = ["recipe.epochs=2", "recipe.batch_size=100", "recipe.eval_batch=2000"]
    sets += ["recipe.eval_every=1", "recipe.schedule.milestones=[1]", "recipe.keep_drops=true"]
    (run,) = digits_plan(digits, ["row=Student", "student=resnet8"], sets=sets).runs
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    undertaker.start([run], digits, undisturbed)
    assert undertaker.wait()["code"] == 0
    count = int((undisturbed / "operations").read_text())
    expected = numbers(undisturbed, run)
    files = {path.name for path in RunDir(undisturbed, run.key).path.iterdir()}
    assert count > 40  # six checkpoints, an epoch's file, the student, the result, the lease
    for number in range(count):
        runs_dir = tmp_path / str(number)
        runs_dir.mkdir()
        undertaker.start([run], digits, runs_dir, die_at=number)
        assert undertaker.wait()["signal"] == signal.SIGKILL
        undertaker.start([run], digits, runs_dir)
        assert undertaker.wait()["code"] == 0, number
        assert numbers(runs_dir, run) == expected, number
        # Nothing is left over but a few bytes of who took the run when.
        left = {path.name for path in RunDir(runs_dir, run.key).path.iterdir()}
        left -= {name for name in left if name.startswith((".draft", ".probe"))}
        assert left - {"lease.json"} == files, number
        shutil.rmtree(runs_dir)


def test_of_two_processes_with_the_same_runs_one_trains_them(
    digits: Path, tmp_path: Path, undertaker: Undertaker
) -> None:
    runs = digits_plan(digits, ["row=Student", COLUMN], seeds="0", sets=["recipe.epochs=20"]).runs
    other = Undertaker()
    try:
        both = (undertaker, other)
        for process in both:
            process.start(runs, digits, tmp_path)
        codes = [process.wait()["code"] for process in both]
        assert sorted(codes) == [0, 1]  # the second one left them alone
        undertaker.start(runs, digits, tmp_path / "alone")
        assert undertaker.wait()["code"] == 0
    finally:
        other.close()
    for run in runs:
        assert numbers(tmp_path, run) == numbers(tmp_path / "alone", run)
        assert RunDir(tmp_path, run.key).read_result()["restarts"] == 0
