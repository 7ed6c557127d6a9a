"""Wrong profiles and broken clusters: one clear line each, and nothing is queued."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.base.errors import UserError
from benchmark.base.trust import own_name
from benchmark.monitor.doctor import _nodes
from benchmark.slurm import commands
from benchmark.slurm.check import check_profile, read_nodes
from benchmark.slurm.init_profile import init_profile
from benchmark.slurm.probe import check_visible
from benchmark.slurm.profile import Profile, Resources, load_profile
from benchmark.slurm.site import Site
from benchmark.submission.arrays import Arrays
from tests.devcluster.conftest import DEVCLUSTER, Cluster, toy, until

pytestmark = pytest.mark.slurm

SMALL = Resources(1, "0", "100M")


@pytest.mark.parametrize(
    ("options", "resources", "message"),
    [
        ({"partition": "mian"}, SMALL, "unknown partition 'mian'.*did you mean 'main'"),
        ({"partition": "short"}, SMALL, r"time 01:00:00 is over the limit.*\(00:05:00\)"),
        ({"account": "nobody"}, SMALL, "refuses account 'nobody'.*yours: .*lab"),
        ({"qos": "gold"}, SMALL, "refuses qos 'gold'.*yours: normal"),
        ({"constraint": "h100"}, SMALL, "refuses constraint 'h100'"),
        ({"exclude": "n99"}, SMALL, "Invalid node name"),
        ({"time": "23:00:00", "signal-seconds": 70_000}, SMALL, "Invalid --signal specification"),
        ({}, Resources(1, "5", "100M"), r"gpus 5 is more than any node.*\(4\)"),
        ({}, Resources(1, "a100:1", "100M"), "no GPU of type a100 .*ask for a number"),
        ({}, Resources(64, "0", "100M"), "cpus-per-task 64 is more than any node"),
        ({}, Resources(1, "0", "1T"), "mem 1T is more than any node"),
    ],
)
def test_a_profile_that_this_cluster_cannot_serve(
    cluster: Cluster, options: dict[str, Any], resources: Resources, message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        check_profile(Profile(**{"time": "01:00:00", **options}), resources, read_nodes())
    assert "\n" not in str(error.value)
    assert cluster.command("squeue", "-h") == ""


def test_a_profile_that_it_can_serve(cluster: Cluster) -> None:
    profile = Profile(partition="low", account="lab", qos="normal", time="01:00:00")
    check_profile(profile, Resources(2, "4", "4000M"), read_nodes())
    assert cluster.command("squeue", "-h") == ""


def test_a_first_profile_for_this_cluster_works(cluster: Cluster, tmp_path: Path) -> None:
    path = init_profile(tmp_path / "new" / "mine.yaml")
    profile = load_profile(str(path), Site())
    assert profile.partition == "main"
    check_profile(profile, SMALL, read_nodes())
    with pytest.raises(UserError, match="exists"):
        init_profile(path)


def test_slurmctld_down(cluster: Cluster) -> None:
    cluster.signal("slurmctld", signal.SIGTERM)
    with pytest.raises(commands.SlurmUnreachableError, match="slurmctld cannot be reached"):
        commands.read_limits()


def test_a_wrong_munge_key(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket, pid = tmp_path / "sock", tmp_path / "pid"
    key = tmp_path / "key"
    key.write_bytes(bytes(range(128)))
    key.chmod(0o400)
    options = {"key-file": key, "socket": socket, "pid-file": pid, "log-file": tmp_path / "log"}
    words = [f"--{name}={value}" for name, value in options.items()]
    subprocess.run(["munged", "--force", f"--seed-file={tmp_path}/seed", *words], check=True)
    try:
        config = (cluster.root / "etc" / "slurm.conf").read_text()
        altered = tmp_path / "slurm.conf"
        altered.write_text(config.replace(f"{cluster.root}/run/munge.sock", str(socket)))
        monkeypatch.setenv("SLURM_CONF", str(altered))
        with pytest.raises(commands.SlurmError, match="its key or clock differs"):
            commands.read_limits()
    finally:
        subprocess.run(["kill", pid.read_text().strip()], check=True)
    altered.write_text(config.replace(f"{cluster.root}/run/munge.sock", "/no/such/socket"))
    with pytest.raises(commands.SlurmError, match="munged is not running here"):
        commands.read_limits()


def test_a_runs_directory_that_all_nodes_see(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    profile = Profile(partition="main", time="01:00:00")
    assert check_visible(runs, profile) is None
    assert list(runs.iterdir()) == []
    # Remembered: a second submission does not run a probe again.
    calls = (tmp_path / "calls.jsonl").read_text()
    assert check_visible(runs, profile) is None
    assert (tmp_path / "calls.jsonl").read_text() == calls
    # Where nothing can be remembered it is checked each time.
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null/state")
    assert check_visible(runs, profile) is None
    assert (tmp_path / "calls.jsonl").read_text() != calls


@pytest.fixture
def blind_node(cluster: Cluster, tmp_path: Path) -> Iterator[Path]:
    """A directory that the node n1 has an empty one in place of."""
    if own_name() != "root" or shutil.which("unshare") is None:
        pytest.skip("needs a mount namespace")
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    cluster.signal("slurmd.n1", signal.SIGTERM)
    script = f"mount -t tmpfs none {hidden} && slurmd -N n1"
    subprocess.run(["unshare", "--mount", "sh", "-c", script], check=True)
    until(
        lambda: cluster.command("sinfo", "-h", "-n", "n1", "-p", "main", "-o", "%T") == "idle",
        "the node to be back",
    )
    yield hidden
    cluster.signal("slurmd.n1", signal.SIGTERM)


def test_a_runs_directory_that_a_node_does_not_see(cluster: Cluster, blind_node: Path) -> None:
    profile = Profile(partition="main", time="01:00:00", exclude="n[2-4]")
    with pytest.raises(UserError, match="cannot be seen or written by compute nodes"):
        check_visible(blind_node, profile)
    assert list(blind_node.iterdir()) == []


def test_data_that_a_node_does_not_see(cluster: Cluster, blind_node: Path, tmp_path: Path) -> None:
    profile = Profile(partition="main", time="01:00:00", exclude="n[2-4]")
    (blind_node / "dataset.json").write_text("{}")
    runs = tmp_path / "runs"
    with pytest.raises(UserError, match=r"hidden/dataset\.json cannot be read by compute nodes"):
        check_visible(runs, profile, [blind_node / "dataset.json"])
    # What was seen of the runs is not taken for the data.
    assert check_visible(runs, profile) is None
    with pytest.raises(UserError, match="cannot be read"):
        check_visible(runs, profile, [blind_node / "dataset.json"])


def test_a_cluster_below_a_closed_folder_says_why_it_does_not_start(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    up = [str(DEVCLUSTER / "up.sh"), str(closed / "cluster")]
    done = subprocess.run(up, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "munged does not start below it" in done.stderr


def test_a_python_that_a_node_does_not_see(
    cluster: Cluster, blind_node: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = Profile(partition="main", time="01:00:00", exclude="n[2-4]")
    (blind_node / "python").write_text("")
    monkeypatch.setattr(sys, "executable", str(blind_node / "python"))
    with pytest.raises(UserError, match=r"hidden/python cannot be read .* no task could start"):
        check_visible(tmp_path / "runs", profile)


def test_a_node_without_scontrol_trains_and_the_doctor_says_what_it_lacks(
    cluster: Cluster, request_for: Callable[..., Arrays], tmp_path: Path
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for name in ("srun", "sh", "bash", "hostname"):
        (few / name).symlink_to(str(shutil.which(name)))
    # A line that fails is said; it need not matter.
    setup = ("cat /no/such/file", f"export PATH={few}")
    request = request_for([toy("p", tmp_path, steps=1)], setup=setup)
    (job,) = request.send()
    until(lambda: (tmp_path / "p.result.json").exists(), "the task to end")
    log = request.folder.task_log(f"{job}_0").read_text()
    assert "a line of the setup failed, exit code 1 of: cat /no/such/file" in log
    (found,) = _nodes(Profile(partition="main", time="01:00:00", setup=setup))
    assert found.mark == "missing"
    assert "no scontrol on" in found.text
    (found,) = _nodes(Profile(partition="main", time="01:00:00"))
    assert found.mark == "ok"


def test_no_node_is_free_to_look(cluster: Cluster, tmp_path: Path) -> None:
    for name in ("n1", "n2", "n3", "n4"):
        words = ["sbatch", "-p", "main", "-w", name, "-c2", "-o", "/dev/null"]
        cluster.command(*words, "--wrap", "sleep 60")
    until(lambda: cluster.command("squeue", "-h", "-t", "R").count("\n") == 3, "all to be busy")
    note = check_visible(tmp_path / "runs", Profile(partition="main", time="01:00:00"))
    assert note is not None
    assert "no node was free" in note
