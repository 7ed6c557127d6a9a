"""What slurm/devcluster/up.sh says where it brings no cluster up; no Slurm is needed for it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

UP = Path(__file__).resolve().parents[2] / "slurm" / "devcluster" / "up.sh"


@pytest.mark.parametrize(
    ("system", "known"),
    [
        ('ID=debian\nVERSION_ID="13"\n', ", as Debian 13's package is known not to"),
        ('ID=debian\nVERSION_ID="12"\n', ""),
        ('ID=ubuntu\nVERSION_ID="24.04"\n', ""),
    ],
)
def test_a_slurmdbd_that_does_not_answer(tmp_path: Path, system: str, known: str) -> None:
    release = tmp_path / "os-release"
    release.write_text(system)
    silent = "wait_for() { return 1; }; slurmdbd() { :; }; start_slurmdbd"
    done = subprocess.run(
        ["bash", "-c", f". {UP} {tmp_path / 'cluster'}; {silent}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "OS_RELEASE": str(release)},
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"slurmdbd does not answer{known}; without accounting")
    assert f"ACCOUNTING=no bash {tmp_path / 'cluster'}" in done.stderr
