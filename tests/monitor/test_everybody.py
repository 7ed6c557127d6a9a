"""What operators see of all users."""

from __future__ import annotations

import pytest

from benchmark.base.errors import UserError
from benchmark.cli.words.status import everybody as to_lines
from benchmark.monitor.everybody import read_everybody, shares
from benchmark.slurm.queue import RawQueue, parse
from tests.submitted import RECORDED

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
