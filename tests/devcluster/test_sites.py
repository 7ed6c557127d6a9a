"""What clusters do besides, on a real Slurm: limits, maintenance, hidden partitions."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.base.trust import own_name
from benchmark.monitor.look import look
from benchmark.monitor.status import read_status
from benchmark.operate.stop import cancel
from benchmark.slurm import commands, queue
from benchmark.slurm.check import check_profile, read_nodes
from benchmark.slurm.check_limits import check_limits
from benchmark.slurm.profile import Profile, Resources
from benchmark.submission.arrays import Arrays
from tests.devcluster.conftest import PROJECT, Cluster, send_digits, until

pytestmark = pytest.mark.slurm

SMALL = Resources(1, "0", "100M")


def test_limits_that_sbatch_accepts_a_job_over(running: Cluster) -> None:
    """They would let it wait for ever: AssocMaxWallDurationPerJobLimit."""
    limit = ["sacctmgr", "-iQ", "modify", "account", "lab", "set"]
    mine = ["sacctmgr", "-iQ", "modify", "user", own_name(), "set"]
    profile = Profile(partition="main", time="60")
    check_limits(profile, SMALL)
    running.command(*limit, "maxwall=00:30:00", "maxtres=cpu=1")
    try:
        assert commands.read_limits().limits
        assert check_profile(profile, SMALL, read_nodes()) is None
        with pytest.raises(UserError, match=r"time 60 is more than account lab .*30 minutes"):
            check_limits(profile, SMALL)
        with pytest.raises(UserError, match=r"cpus-per-task .* account lab .*cpu=1"):
            check_limits(Profile(time="10"), Resources(2, "0", "100M"))
        running.command(*limit, "maxtres=cpu=-1")
        running.command(*mine, "grptres=mem=50")
        with pytest.raises(UserError, match=r"mem .* all its jobs together \(mem=50M\)"):
            check_limits(Profile(time="10"), SMALL)
    finally:
        running.command(*limit, "maxwall=-1", "maxtres=cpu=-1")
        running.command(*mine, "grptres=mem=-1")


@contextmanager
def partition_qos(
    cluster: Cluster, partition: str, name: str, *limits: str, mine: bool = False
) -> Iterator[Callable[[], object]]:
    """A QOS for a while; calling what is given makes its limits those of the partition.

    ``mine``: my own jobs may ask for it, too.
    """
    act = ["sacctmgr", "-iQ"]
    me = [*act, "modify", "user", own_name(), "set"]
    part = ["scontrol", "update", f"partitionname={partition}"]
    cluster.command(*act, "add", "qos", name, "set", *limits)
    try:
        if mine:
            cluster.command(*me, f"qos+={name}")
        until(lambda: name in cluster.command("scontrol", "show", "assoc_mgr"), "the QOS")
        yield lambda: cluster.command(*part, f"qos={name}")
    finally:
        cluster.command(*part, "qos=")
        if mine:
            cluster.command(*me, f"qos-={name}")
        cluster.command(*act, "delete", "qos", name)


@contextmanager
def sent(cluster: Cluster, *words: str, time: str = "4") -> Iterator[str]:
    """A job of two CPUs that sleeps, for a while."""
    asks = ["--parsable", "-c2", "--mem=100", f"-t{time}", "-o/dev/null", "--wrap=sleep 600"]
    job = cluster.command("sbatch", *words, *asks).strip()
    try:
        yield job
    finally:
        cluster.command("scancel", job)


def waits_with(cluster: Cluster, job: str, reason: str) -> None:
    """Wait until Slurm gives this reason for a job's waiting."""
    until(lambda: reason in cluster.command("squeue", "-h", "-o%r", f"-j{job}"), reason)


def test_limits_of_a_partitions_qos(running: Cluster) -> None:
    words = ("maxwall=00:04:00", "maxjobspu=1")
    with partition_qos(running, "short", "narrow", *words) as hold:
        hold()
        check_limits(Profile(partition="main", time="5"), SMALL)
        with pytest.raises(UserError, match=r"time 5 is more than QOS narrow allows .*4 minutes"):
            check_limits(Profile(partition="short", time="5"), SMALL)
        note = check_limits(Profile(partition="short", time="4"), SMALL)
        assert note == "QOS narrow runs at most 1 job at a time; others wait for their turn"


def test_limits_of_the_default_partitions_qos(running: Cluster) -> None:
    """Minutes of all its jobs, a node's share, and the least that a job has to ask for."""
    words = ("grptresrunmins=cpu=100", "maxtrespernode=cpu=2", "mintres=mem=50")
    with partition_qos(running, "main", "odd", *words) as hold:
        hold()
        check_limits(Profile(time="60"), SMALL)
        with pytest.raises(UserError, match=r"QOS odd allows a job times its .*\(cpu=100\)"):
            check_limits(Profile(time="120"), SMALL)
        with pytest.raises(UserError, match=r"QOS odd allows a job on a node \(cpu=2\)"):
            check_limits(Profile(time="10"), Resources(3, "0", "100M"))
        with pytest.raises(UserError, match=r"mem asks for less than QOS odd .*\(mem=50M\)"):
            check_limits(Profile(time="10"), Resources(1, "0", "40M"))
        # One of two partitions is enough.
        check_limits(Profile(partition="main,short", time="120"), SMALL)


def test_limits_of_the_qos_that_slurm_takes_where_none_is_named(running: Cluster) -> None:
    limit = ["sacctmgr", "-iQ", "modify", "qos", "normal", "set"]
    try:
        running.command(*limit, "maxwall=00:03:00")
        with pytest.raises(UserError, match=r"time 4 is more than QOS normal allows .*3 minutes"):
            check_limits(Profile(time="4"), SMALL)
        with sent(running) as job:
            waits_with(running, job, "QOSMaxWallDurationPerJobLimit")
        check_limits(Profile(time="3"), SMALL)
    finally:
        running.command(*limit, "maxwall=-1")


def test_the_first_qos_that_limits_all_jobs_stands(running: Cluster) -> None:
    """What is let pass Slurm runs, and what is refused waits there."""
    profile, two = Profile(partition="main", qos="small", time="10"), Resources(2, "0", "100M")
    words = ("--partition=main", "--qos=small")
    with (
        partition_qos(running, "main", "small", "grptres=cpu=1", mine=True),
        partition_qos(running, "main", "wide", "grptres=cpu=100") as hold,
    ):
        with pytest.raises(UserError, match="QOS small allows all its jobs together"):
            check_limits(profile, two)
        with sent(running, *words) as job:
            waits_with(running, job, "QOSGrpCpuLimit")
        hold()
        check_limits(profile, two)
        with sent(running, *words) as job:
            until(lambda: running.state(job) == "RUNNING", "Slurm to run it")


def test_a_qos_above_the_partitions_and_one_that_hides_an_accounts_number(
    running: Cluster,
) -> None:
    two = Resources(2, "0", "100M")
    limit = ["sacctmgr", "-iQ", "modify", "user", own_name(), "set"]
    long = ("maxwall=7-00:00:00", "maxjobspu=5", "flags=OverPartQOS")
    with (
        partition_qos(running, "main", "brief", "maxwall=00:05:00") as hold,
        partition_qos(running, "main", "long", *long, mine=True),
    ):
        hold()
        try:
            running.command(*limit, "maxjobs=0")
            with pytest.raises(UserError, match="account lab may run no jobs"):
                check_limits(Profile(partition="main", time="4"), two)
            with sent(running, "--partition=main") as job:
                waits_with(running, job, "AssocMaxJobsLimit")
            note = check_limits(Profile(partition="main", qos="long", time="10"), two)
            assert note == "QOS long runs at most 5 jobs at a time; others wait for their turn"
            with sent(running, "--partition=main", "--qos=long", time="10") as job:
                until(lambda: running.state(job) == "RUNNING", "Slurm to run it")
        finally:
            running.command(*limit, "maxjobs=-1")


def test_a_partition_that_is_down_or_closed_to_an_account(running: Cluster) -> None:
    part = ["scontrol", "update", "partitionname=short"]
    profile = Profile(partition="short", time="5")
    assert check_limits(profile, SMALL) is None
    try:
        running.command(*part, "state=down")
        note = check_limits(profile, SMALL)
        assert note is not None
        assert note.startswith("partition short is down: what is sent waits")
        running.command(*part, "state=up", "allowaccounts=root")
        assert check_limits(profile, SMALL) is None  # mine lies in it
        running.command(*part, "allowaccounts=ALL", "denyaccounts=lab")
        with pytest.raises(UserError, match="partition short excludes account lab"):
            check_limits(profile, SMALL)
        with sent(running, "--partition=short") as job:
            waits_with(running, job, "account not permitted to use this partition")
        running.command(*part, "denyaccounts=", "allowqos=NORMAL")
        assert check_limits(Profile(partition="short", qos="normal", time="4"), SMALL) is None
        with sent(running, "--partition=short") as job:
            until(lambda: running.state(job) == "RUNNING", "Slurm to run it")
        running.command(*part, "allowqos=ALL", "denyqos=normal")
        named = Profile(partition="short", qos="normal", time="4")
        with pytest.raises(UserError, match="partition short excludes QOS normal"):
            check_limits(named, SMALL)
        with sent(running, "--partition=short") as job:
            waits_with(running, job, "QOS not permitted to use this partition")
    finally:
        running.command(*part, "state=up", "denyqos=", "allowaccounts=ALL", "allowqos=ALL")


def test_limits_of_the_accounts_above(running: Cluster) -> None:
    """An account of mine in `group`, in `faculty`: each limits what jobs have together."""
    act = ["sacctmgr", "-iQ"]
    try:
        running.command(*act, "add", "account", "faculty", "cluster=devcluster")
        running.command(*act, "add", "account", "group", "parent=faculty", "cluster=devcluster")
        mine = ["account=group", "cluster=devcluster"]
        running.command(*act, "add", "user", own_name(), *mine)
        profile = Profile(partition="main", time="10", account="group")
        assert check_limits(profile, SMALL) is None
        running.command(*act, "modify", "account", "group", "set", "grptres=cpu=8", "grpjobs=3")
        note = check_limits(profile, SMALL)
        assert note == "account group runs at most 3 jobs at a time; others wait for their turn"
        running.command(*act, "modify", "account", "faculty", "set", "grptres=cpu=1,gres/gpu=0")
        with pytest.raises(UserError, match=r"account faculty .* together \(cpu=1\)"):
            check_limits(profile, Resources(2, "0", "100M"))
        with pytest.raises(UserError, match=r"account faculty .* together \(gres/gpu=0\)"):
            check_limits(profile, Resources(1, "1", "100M"))
        # Slurm means it: the job waits with the reason that was foreseen.
        word = ["sbatch", "--parsable", "-A", "group", "-c2", "--mem=50M", "-t1", "-o", "/dev/null"]
        job = running.command(*word, "--wrap", "true")
        reason = lambda: running.command("squeue", "-h", "-o", "%r", "-j", job)  # noqa: E731
        until(lambda: reason() == "AssocGrpCpuLimit", "the limit to be its reason", told=reason)
        running.command("scancel", job)
        running.command(*act, "modify", "account", "faculty", "set", "grpjobs=0")
        with pytest.raises(UserError, match=r"account faculty may run no jobs"):
            check_limits(profile, SMALL)
    finally:
        running.command("scancel", "-u", own_name())
        until(lambda: not running.command("squeue", "-h"), "the queue to empty")
        running.command(*act, "delete", "user", own_name(), "account=group")
        running.command(*act, "delete", "account", "group")
        running.command(*act, "delete", "account", "faculty")


def test_what_cannot_start_now_is_sent_and_waits(
    cluster: Cluster, request_for: Callable[..., Arrays], digits: Path, tmp_path: Path
) -> None:
    nodes = ["scontrol", "update", "nodename=n[1-4]"]
    cluster.command(*nodes, "state=drain", "reason=maintenance")
    try:
        note = check_profile(Profile(partition="main", time="60"), SMALL, read_nodes())
        assert note is not None
        assert "drained, down or reserved" in note
        send_digits(request_for([]), digits, tmp_path / "runs", tmp_path)
        seen = lambda: read_status(tmp_path / "runs", digits).tables[0].waiting  # noqa: E731
        until(lambda: any("DOWN, DRAINED" in why for why in seen()), "Slurm to say why")
        assert sum(seen().values()) == 3
    finally:
        cluster.command(*nodes, "state=resume")


def test_a_cluster_that_is_named(
    cluster: Cluster,
    request_for: Callable[..., Arrays],
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where one slurmdbd knows several: sbatch then says 1234;devcluster."""
    monkeypatch.setenv("SLURM_CLUSTERS", "devcluster")
    runs = tmp_path / "runs"
    (job,) = send_digits(request_for([]), digits, runs, tmp_path, steps=600)
    tasks = {f"{job}_{number}" for number in range(3)}
    running = lambda: {w.task for w in look(runs).packs if w.state.name == "running"}  # noqa: E731
    until(lambda: running() == tasks, "three tasks to run")
    # A task asks the controller that it runs under, and shows its pack there.
    shown = lambda: {r.tag.pack for r in queue.read(0.0, accounting=False).queued}  # noqa: E731
    until(lambda: shown() == {work.label for work in look(runs).packs}, "their packs to be shown")
    assert cancel(runs, None, None, True).tasks == 3


def test_a_hidden_partition(cluster: Cluster, tmp_path: Path) -> None:
    """Its jobs are shown to an ordinary user only who asks for all partitions."""
    if own_name() != "root":
        pytest.skip("only root can be somebody else")
    create = ["scontrol", "create", "partitionname=secret", "nodes=n1", "hidden=yes"]
    cluster.command("sacctmgr", "-iQ", "add", "user", "nobody", "account=lab")
    cluster.command(*create)
    wrap = ["-p", "secret", "-J", "bench-toy", "-o", "/dev/null", "--wrap", "sleep 60"]
    program = (
        "from benchmark.slurm import check, queue;"
        "print(len(queue.read(0, accounting=False).queued),"
        " 'secret' in {n.partition for n in check.read_nodes()},"
        " queue.tasks_of_everybody())"
    )
    as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "BENCH_CALL_LOG": "/dev/null"}
    try:
        words = [*as_nobody, "sh", "-c", 'cd / && sbatch "$@" >/dev/null', "sh", *wrap]
        subprocess.run(words, check=True, env=environment, timeout=60)
        asked = [*as_nobody, sys.executable, "-c", program]
        done = subprocess.run(
            asked, env=environment, capture_output=True, text=True, timeout=60, cwd="/"
        )
        assert done.stdout.split() == ["1", "True", "1"], done.stderr
    finally:
        cluster.command("scancel", "-u", "nobody")
        until(lambda: not cluster.command("squeue", "-h"), "the queue to empty")
        cluster.command("scontrol", "delete", "partitionname=secret")
        cluster.command("sacctmgr", "-iQ", "delete", "user", "nobody")
