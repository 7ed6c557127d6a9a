"""What is decided before Slurm is asked for anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.planning.remaining import Queued, plan_packs, remaining
from benchmark.slurm import commands, queue
from benchmark.slurm.commands import ClusterLimits
from benchmark.slurm.profile import Profile
from benchmark.slurm.site import Site
from benchmark.submission import slurm as slurm_executor_module
from benchmark.submission.executors import directories
from benchmark.submission.slurm import SlurmExecutor, executor
from benchmark.submission.submission import Queue, new_submission
from tests import submitted
from tests.helpers import digits_plan


@pytest.mark.parametrize(
    ("gpus", "device"), [("", "cpu"), ("gpus: 0", "cpu"), ("gpus: a100:1", "cuda")]
)
def test_the_profile_decides_what_auto_means(tmp_path: Path, gpus: str, device: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"partition: main\n{gpus}\n")
    assert executor(str(path)).device == device


def test_a_run_on_cuda_needs_a_profile_with_gpus(digits: Path) -> None:
    plan = digits_plan(digits, ["row=Student"], sets=["recipe.device=cuda"])
    chosen = SlurmExecutor(Profile(gpus="0"), Site())
    with pytest.raises(UserError, match=r"asks for no GPUs .* trains on cuda"):
        chosen._resources(plan_packs(plan, list(plan.runs))[0])


def test_directories_are_the_users_then_the_profiles() -> None:
    chosen = SlurmExecutor(Profile(runs=Path("/lab/runs"), data=Path("/lab/data")), Site())
    assert directories(chosen, None, None) == (Path("/lab/runs"), Path("/lab/data"))
    assert directories(chosen, Path("mine"), None) == (Path("mine"), Path("/lab/data"))


@pytest.mark.parametrize("known", [False, True])
def test_where_runs_lie_is_told_to_those_who_would_look_elsewhere(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    monkeypatch.setattr(slurm_executor_module, "read_nodes", list)
    monkeypatch.setattr(slurm_executor_module, "check_profile", lambda *_: None)
    monkeypatch.setattr(
        commands, "read_limits", lambda: ClusterLimits("c", "22.05", 1001, 10_000, True)
    )
    monkeypatch.setattr(queue, "tasks_of_everybody", lambda: 0)
    monkeypatch.setenv("BENCH_RUNS", str(tmp_path if known else tmp_path / "other"))
    plan = digits_plan(digits, ["row=Student", "column=wrn_16_2-resnet8"])
    packs = plan_packs(plan, list(plan.runs))
    submission = new_submission("digits", packs, tmp_path, digits)
    prepared = SlurmExecutor(Profile(runs=tmp_path), Site()).prepare(submission, Queue())
    assert any("set BENCH_RUNS" in line for line in prepared.lines) != known


def test_links_stay_as_the_user_spelt_them(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a shared path leads to may be known on the login node alone."""
    monkeypatch.setattr(slurm_executor_module, "read_nodes", list)
    monkeypatch.setattr(slurm_executor_module, "check_profile", lambda *_: None)
    monkeypatch.setattr(
        commands, "read_limits", lambda: ClusterLimits("c", "22.05", 1001, 10_000, True)
    )
    monkeypatch.setattr(queue, "tasks_of_everybody", lambda: 0)
    for name in ("runs", "teachers"):
        (tmp_path / "disk7" / name).mkdir(parents=True)
    shared = tmp_path / "shared"
    shared.symlink_to(tmp_path / "disk7")
    monkeypatch.setenv("BENCH_TEACHERS", str(shared / "teachers"))
    plan = digits_plan(digits, ["row=Student", "column=wrn_16_2-resnet8"])
    submission = new_submission(
        "digits", plan_packs(plan, list(plan.runs)), shared / "runs", digits
    )
    prepared = SlurmExecutor(Profile(), Site()).prepare(submission, Queue())
    text = prepared.script()
    assert f"{shared}/runs/.submissions/" in text
    assert f"{shared}/runs/.code/" in text
    assert f"BENCH_TEACHERS={shared}/teachers" in text
    assert "disk7" not in text
    (pack,) = submission.files()
    assert pack.runs_dir == shared / "runs"


def test_what_another_cluster_may_have_is_said(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_executor_module, "read_nodes", list)
    monkeypatch.setattr(slurm_executor_module, "check_profile", lambda *_: None)
    monkeypatch.setattr(queue, "tasks_of_everybody", lambda: 0)
    plan = digits_plan(digits, ["row=Student", "column=wrn_16_2-resnet8"])
    packs = plan_packs(plan, list(plan.runs))
    folder = submitted.in_slurm(tmp_path, digits, packs, 12)
    record = json.loads((folder / "submission.json").read_text())
    (folder / "submission.json").write_text(json.dumps({**record, "cluster": "alps"}))
    for name, known in (("alps", True), ("jura", False)):
        limits = ClusterLimits(name, "22.05", 1001, 10_000, True)
        monkeypatch.setattr(commands, "read_limits", lambda found=limits: found)
        submission = new_submission("digits", packs, tmp_path, digits)
        lines = SlurmExecutor(Profile(), Site()).prepare(submission, Queue()).lines
        said = "1 run of these went to the cluster alps before"
        assert any(said in line for line in lines) != known


def test_students_of_a_teacher_that_is_queued_wait_for_it(digits: Path, tmp_path: Path) -> None:
    plan = digits_plan(digits, ["row=KD", "column=wrn_16_2-resnet8"])
    (teacher,) = plan.teachers
    queued = {teacher.key: Queued("the-teachers-pack", "12_0", "running")}
    left = remaining(plan, tmp_path, queued=queued)
    assert left.queued == [teacher]
    (pack,) = plan_packs(plan, left.runs, queued=queued)
    assert pack.depends == ("the-teachers-pack",)
