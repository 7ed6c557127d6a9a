"""What operators see of all users."""

from __future__ import annotations

import pytest

from benchmark.base.errors import UserError
from benchmark.cli.words.status import everybody as to_lines
from benchmark.monitor.everybody import read_everybody, shares, to_json
from benchmark.slurm import commands, queue
from benchmark.slurm.commands import ClusterLimits
from benchmark.slurm.queue import RawQueue, parse
from tests.submitted import RECORDED, UNCOUNTED

pytestmark = pytest.mark.usefixtures("called")


def test_everybodys_tasks_come_from_names_and_comments_alone() -> None:
    found = {item.table: item for item in shares(parse(RawQueue(**RECORDED)))}
    assert dict(found["cifar100"].tasks) == {"waiting": 5000, "requeued": 1}
    digits = found["digits"]
    assert dict(digits.tasks) == {
        "running": 2,
        "requeued": 1,
        "completed": 1,
        "cancelled": 1,
        "failed": 1,
    }
    assert (digits.user, digits.gpus) == ("lena", 4)
    assert [share.table for share in read_everybody("cifar100").found] == ["cifar100"]
    with pytest.raises(UserError, match="unknown table 'digit' in --table; did you mean 'digits'"):
        read_everybody("digit")
    lines = to_lines([digits])
    assert lines[0].split() == [
        *("user", "table", "running", "waiting", "requeued", "completed", "failed"),
        *("GPUs", "GPU-hours"),
    ]


@pytest.mark.parametrize("runs", [True, False])
def test_gpu_hours_that_this_cluster_does_not_count_are_not_tracked(
    monkeypatch: pytest.MonkeyPatch, runs: bool
) -> None:
    """Where nothing runs, Slurm's configuration tells."""
    raw = UNCOUNTED if runs else {**UNCOUNTED, "squeue": ""}
    monkeypatch.setattr(queue, "read_raw", lambda *question: RawQueue(**raw))
    limits = ClusterLimits("c", "22.05", 1001, 10_000, True, gpus_counted=False)
    monkeypatch.setattr(commands, "read_limits", lambda: limits)
    found = read_everybody()
    assert {share.gpu_hours for share in found.found} == {None}
    assert "AccountingStorageTRES has no gres/gpu" in found.warnings[-1]
    assert to_json(found.found)["users"][0]["gpu_hours"] is None
    assert all(line.endswith(" not tracked") for line in to_lines(found.found)[1:-1])
