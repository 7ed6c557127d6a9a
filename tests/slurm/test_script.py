"""The script of an array, as sbatch reads it."""

from __future__ import annotations

from pathlib import Path

from benchmark.slurm.script import ArrayExecutor


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
