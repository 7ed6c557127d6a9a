"""The script of an array, as sbatch reads it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmark.slurm.notation import Tag
from benchmark.slurm.profile import Profile, Resources
from benchmark.slurm.script import ArrayExecutor, script_text


def test_a_percent_sign_in_a_folder_is_no_pattern_of_slurm(tmp_path: Path) -> None:
    folder = tmp_path / "50%j"
    folder.mkdir()
    text = ArrayExecutor(folder).text("true", 2)
    logs = [line for line in text.splitlines() if "--output" in line or "--error" in line]
    assert logs
    for line in logs:
        assert "/50%%j/%" in line
        assert "/50%j/" not in line
        assert "/50%A" not in line


def _script(tmp_path: Path, tasks: int | None, **options: object) -> str:
    return script_text(
        folder=tmp_path,
        tag=Tag("digits", "x3", "0a1b-0"),
        tasks=tasks,
        command=["-m", "x"],
        profile=Profile(**options),
        resources=Resources(2, "0", "1G"),
        environment={},
        code=tmp_path,
    )


def test_a_job_that_is_no_array(tmp_path: Path) -> None:
    text = _script(tmp_path, None)
    assert "--array" not in text
    assert f"--output={tmp_path}/%j_0_log.out" in text
    assert "#SBATCH --array=0-2%3" in _script(tmp_path, 3)


def test_lines_of_a_setup_that_fail_are_said_and_end_nothing(tmp_path: Path) -> None:
    sourced = tmp_path / "activate"
    sourced.write_text("false\ntrue\n")  # inside it is the file's own affair
    lines = (f"source {sourced}", "if false; then :; fi", "ls /no/such/place", "export WENT=on")
    text = _script(tmp_path, 3, setup=lines)
    script = tmp_path / "script"
    script.write_text(text.partition("# command")[0] + 'false; echo "$WENT: $BENCH_SETUP"\n')
    done = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
    assert done.stdout == "on: exit code 2 of: ls /no/such/place\n"
    assert done.stderr.count("a line of the setup failed") == 1


def _divided(folder: Path, profile: Profile, replicas: int) -> str:
    return script_text(
        folder=folder,
        tag=Tag("table", "pack", "1-0"),
        tasks=3,
        command=["-c", "pass"],
        profile=profile,
        resources=profile.resources(2, False, replicas),
        environment={},
        code=folder,
    )


def test_the_processes_of_a_run_are_the_tasks_of_its_job(tmp_path: Path) -> None:
    profile = Profile.model_validate({"nodes": 2, "ntasks-per-node": 2})
    text = _divided(tmp_path, profile, 4)
    assert "#SBATCH --nodes=2" in text
    assert "#SBATCH --ntasks-per-node=2" in text
    assert "#SBATCH --cpus-per-task=2" in text
    (srun,) = [line for line in text.splitlines() if line.startswith("srun ")]
    # The first process saves after another one died: it must be left to end by itself.
    assert "--kill-on-bad-exit=0 --wait=0" in srun


def test_one_process_is_asked_for_as_before(tmp_path: Path) -> None:
    text = _divided(tmp_path, Profile(), 4)
    assert "#SBATCH --nodes=1" in text
    assert "ntasks" not in text
    assert "--wait" not in text
