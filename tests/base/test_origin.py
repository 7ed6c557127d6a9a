"""Which code made a result: where git gives no commit, the digest of the code says so alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmark.base.origin import code_digest
from tests.two_users import ALICE, as_root

ROOT = Path(__file__).resolve().parents[2]
SHOW = """
import json
from benchmark.base.origin import code_version, no_commit
print(json.dumps([code_version(), no_commit()]))
"""


@as_root
def test_a_checkout_of_another_user_is_known_by_its_digest(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "benchmark", tmp_path / "benchmark")
    (tmp_path / "setup.py").touch()
    (tmp_path / "setup.cfg").touch()
    subprocess.run(["git", "-C", str(tmp_path), "init", "-q"], check=True)
    for place in (tmp_path, tmp_path / ".git"):
        os.chown(place, ALICE, ALICE)
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("BENCH_", "SUDO_"))}
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**variables, "HOME": str(tmp_path / "nobody"), "PYTHONPATH": str(tmp_path)},
    )
    version, why = json.loads(done.stdout)
    assert version == {"commit": None, "dirty": None, "code": code_digest()}
    assert "dubious ownership" in why
    assert why.endswith("results hold a digest of the code")
