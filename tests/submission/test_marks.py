from __future__ import annotations

from pathlib import Path

from benchmark.submission.folder import Folder
from benchmark.submission.marks import LIMIT, alike, note_failure, reasons


def test_failures_are_alike_whatever_they_name() -> None:
    one = alike("digits-resnet8x4-kd-3fa9c1d2: cannot read /data/a/train.beton at line 12")
    two = alike("digits-wrn_40_2-dkd-99aa01ff: cannot read /data/b/x.beton at line 7")
    assert one == two
    assert one != alike("CUDA out of memory")


def test_the_third_alike_failure_holds_the_rest(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert not note_failure(folder, "7_0", "no space left on /runs/a")
    assert not note_failure(folder, "7_1", "CUDA out of memory")
    # The same task again counts once.
    assert not note_failure(folder, "7_0", "no space left on /runs/a")
    assert not note_failure(folder, "7_2", "no space left on /runs/b")
    assert note_failure(folder, "7_3", "no space left on /runs/c")
    assert len(reasons(folder)) == LIMIT + 1
