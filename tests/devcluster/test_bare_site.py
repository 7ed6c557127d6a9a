"""A site whose nodes have no memory configured, and that takes no arrays, on a real Slurm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.monitor.doctor import _memory_of_nodes
from benchmark.monitor.look import look
from benchmark.operate.stop import cancel, pause, resume
from benchmark.slurm.check import check_profile, read_nodes
from benchmark.slurm.init_profile import init_profile
from benchmark.slurm.profile import Profile, Resources, load_profile
from benchmark.slurm.site import Site
from benchmark.submission.arrays import Arrays
from tests.devcluster.conftest import Cluster, configure, send_digits, until

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def site(running: Cluster) -> Iterator[Cluster]:
    before = (running.root / "etc" / "slurm.conf").read_text()
    altered = before.replace("MaxArraySize=10001", "MaxArraySize=0")
    for words in (" DefMemPerCPU=100", " RealMemory=4000", "_Memory"):
        assert words in altered
        altered = altered.replace(words, "")
    configure(running, altered)
    yield running
    configure(running, before)


def test_no_memory_is_asked_for_where_none_is_configured(site: Cluster, tmp_path: Path) -> None:
    path = init_profile(tmp_path / "mine.yaml")
    assert "\nmem: none  # this cluster refuses the usual --mem\n" in path.read_text()
    profile = load_profile(str(path), Site())
    assert check_profile(profile, profile.resources(1, False), read_nodes()) is None
    with pytest.raises(UserError, match=r"no memory configured.*mem: none"):
        check_profile(Profile(time="60"), Resources(1, "0", "100M"), read_nodes())
    (note,) = _memory_of_nodes()
    assert "no node has its memory configured" in note.text


def test_without_arrays_each_task_is_a_job(
    site: Cluster, request_for: Callable[..., Arrays], digits: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    first, second, third = send_digits(request_for([]), digits, runs, tmp_path, steps=100)
    tasks = lambda: {w.task: w.state.name for w in look(runs).packs}  # noqa: E731
    running = {str(job): "running" for job in (first, second, third)}
    until(lambda: tasks() == running, "three jobs to run")
    work = look(runs).works
    key = next(key for key, found in work.items() if found.job == second)
    assert cancel(runs, None, key, False).tasks == 1
    until(lambda: not site.state(str(second)), "one to be cancelled")
    # What is requeued in a paused submission is held, and what is resumed runs.
    pause(runs, None)
    site.command("scontrol", "requeue", str(third))
    until(lambda: look(runs).standings[work_of(runs, third)].name == "held", "one to hold itself")
    resume(runs, None)
    until(lambda: len(list(tmp_path.glob("*.result.json"))) == 2, "both to end")
    assert {w.log.name for w in look(runs).packs if w.log.exists()} == {
        f"{job}_0_log.out" for job in (first, second, third)
    }


def work_of(runs: Path, job: int) -> str:
    """Return the run of a job."""
    return next(key for key, work in look(runs).works.items() if work.job == job)
