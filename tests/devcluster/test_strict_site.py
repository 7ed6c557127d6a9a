"""A site with rules of its own, on a real Slurm: what is asked there, said, and sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.base.trust import own_name
from benchmark.monitor.status import read_status
from benchmark.slurm.check import check_profile, read_nodes
from benchmark.slurm.init_profile import init_profile
from benchmark.slurm.profile import Profile, Resources, load_profile
from benchmark.slurm.site import Site
from benchmark.submission.arrays import Arrays
from tests.devcluster.conftest import Cluster, configure, send_digits, until

pytestmark = pytest.mark.slurm

SMALL = Resources(1, "0", "100M")
# A submit plug-in as sites write them: two lines for whoever asks for --mem.
NO_MEM = """
function slurm_job_submit(job, partitions, user)
  if job.min_mem_per_node ~= nil and job.min_mem_per_node ~= slurm.NO_VAL64 then
    slurm.log_user("Please do not ask for --mem on this cluster.")
    slurm.log_user("Ask for --mem-per-cpu: https://docs.example.org/memory")
    return slurm.ERROR
  end
  return slurm.SUCCESS
end
function slurm_job_modify(job, record, partitions, user) return slurm.SUCCESS end
return slurm.SUCCESS
"""


@pytest.fixture(scope="module")
def site(running: Cluster) -> Iterator[Cluster]:
    """A submit plug-in refuses --mem, GPUs are not counted, arrays have two tasks at most."""
    config = running.root / "etc" / "slurm.conf"
    before = config.read_text()
    (config.parent / "job_submit.lua").write_text(NO_MEM)
    altered = before.replace("AccountingStorageTRES=gres/gpu\n", "").replace(
        "SchedulerParameters=", "SchedulerParameters=max_array_tasks=2,"
    )
    configure(running, f"{altered}JobSubmitPlugins=lua\nLicenses=nvlink:2\n")
    yield running
    (config.parent / "job_submit.lua").unlink()
    configure(running, before)


def test_init_writes_what_this_cluster_takes(site: Cluster, tmp_path: Path) -> None:
    path = init_profile(tmp_path / "mine.yaml")
    assert "\nmem-per-cpu: 500M  # this cluster refuses the usual --mem\n" in path.read_text()
    profile = load_profile(str(path), Site())
    assert check_profile(profile, profile.resources(1, False), read_nodes()) is None
    # What its plug-in says is told whole.
    with pytest.raises(UserError, match=r"do not ask for --mem .*; Ask for --mem-per-cpu: https"):
        check_profile(Profile(time="60"), SMALL, read_nodes())


def test_gpu_hours_are_those_that_were_asked_for(
    site: Cluster, request_for: Callable[..., Arrays], digits: Path, tmp_path: Path
) -> None:
    jobs = send_digits(request_for([]), digits, tmp_path / "runs", tmp_path, gpus="2")
    assert len(jobs) == 2  # of two tasks and of one
    until(lambda: len(list(tmp_path.glob("*.result.json"))) == 3, "three toys to end")
    until(lambda: not site.command("squeue", "-h"), "all to leave the queue")
    seen = lambda: read_status(tmp_path / "runs", digits).tables[0]  # noqa: E731
    found = until(lambda: (t := seen()).hours > 0 and t, "sacct to know them")
    assert found.gpu_hours == pytest.approx(2 * found.hours)


def test_whatever_people_ask_for_is_taken(
    site: Cluster, request_for: Callable[..., Arrays], digits: Path, tmp_path: Path
) -> None:
    until_later = ["starttime=now", "duration=10", "nodes=n2", f"users={own_name()}"]
    site.command("scontrol", "create", "reservation", "reservationname=course", *until_later)
    options = {
        "nodelist": "n2", "exclusive": True, "reservation": "course", "licenses": "nvlink:1",
        "hint": "nomultithread", "mail-type": "END", "options": ["--nice=7"], "export": "NONE",
    }  # fmt: skip
    try:
        check_profile(Profile(time="10", **options), Resources(1, "0", "none"), read_nodes())
        job, _ = send_digits(request_for([], **options), digits, tmp_path / "runs", tmp_path)
        shown = site.command("scontrol", "show", "job", f"{job}_0")
        for told in ("ReqNodeList=n2", "Licenses=nvlink:1", "Reservation=course", "Nice=7"):
            assert told in shown
        # Jobs that inherit nothing from here still pass on what their script says.
        until(lambda: len(list(tmp_path.glob("*.result.json"))) == 3, "three toys to end")
    finally:
        site.command("scancel", "-u", own_name())
        until(lambda: not site.command("squeue", "-h"), "the queue to empty")
        site.command("scontrol", "delete", "reservationname=course")
