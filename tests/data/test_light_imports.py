from __future__ import annotations

import subprocess
import sys


def test_planning_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, benchmark.data.datasets, benchmark.data.augmentations\n"
        "print(sorted({'torch', 'numpy', 'PIL', 'ffcv'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.strip() == "[]", found.stderr
