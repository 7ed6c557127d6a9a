"""What accounts, QOS and partitions allow a job, from what Slurm prints of them."""

from __future__ import annotations

import re
from typing import NoReturn

import pytest

from benchmark.base.errors import UserError
from benchmark.slurm import limits, partitions
from benchmark.slurm.check_limits import check_doors, check_job, check_limits
from benchmark.slurm.commands import SlurmError
from benchmark.slurm.profile import Profile, Resources

SMALL = Resources(1, "0", "2G")

# What `sacctmgr show assoc` and `show qos` say: "lab|root||normal||00:30:00|cpu=1|||".
LAB = limits._limit("account lab", "00:30:00", "cpu=1,gres/gpu=2,mem=4G")


@pytest.mark.parametrize(
    ("profile", "resources", "found", "message"),
    [
        (Profile(time="31"), SMALL, [LAB], r"time 31 is more than account lab allows.*30 minutes"),
        (Profile(time="9"), Resources(2, "0", "2G"), [LAB], r"cpus-per-task .*\(cpu=1\)"),
        (Profile(time="9"), Resources(1, "a100:3", "2G"), [LAB], r"gpus .*\(gres/gpu=2\)"),
        (Profile(time="9"), Resources(1, "0", "5G"), [LAB], r"mem .*\(mem=4G\)"),
        (Profile(time="9"), Resources(1, "2", "4G"), [LAB], ""),
        (
            Profile(time="9"),
            Resources(8, "0", "2G"),
            [limits._limit("QOS shared", "", "", "cpu=64", "cpu=4,node=2", "")],
            r"cpus-per-task .* QOS shared allows all its jobs together \(cpu=4\)",
        ),
        # No GPUs at all, of this type at most one, and processes that count together.
        (
            Profile(time="9"),
            Resources(1, "1", "2G"),
            [limits._limit("account cpu", "", "gres/gpu=0")],
            r"gpus asks for more than account cpu allows a job \(gres/gpu=0\)",
        ),
        (
            Profile(time="9"),
            Resources(1, "a100:2", "2G"),
            [limits._limit("account lab", "", "gres/gpu:a100=1,gres/gpu:v100=8")],
            r"gpus .*\(gres/gpu:a100=1\)",
        ),
        (Profile(time="9"), Resources(1, "0", "2G", None, 2, 4), [LAB], r"cpus-per-task .*cpu=1"),
        # Every account above the user's limits what jobs have together.
        (
            Profile(time="9"),
            Resources(4, "0", "2G"),
            [
                limits._limit("account lab", "", "", "cpu=8"),
                limits._limit("account faculty", "", "", "cpu=2"),
            ],
            r"cpus-per-task .* account faculty allows all its jobs together \(cpu=2\)",
        ),
        (
            Profile(time="60"),
            Resources(4, "0", "2G"),
            [limits._limit("account lab", "", "", times=["cpu=200"])],
            r"cpus-per-task .* account lab allows a job times its minutes \(cpu=200\)",
        ),
        (
            Profile(time="9"),
            SMALL,
            [limits._limit("account faculty", "", "", jobs=["5", "0"])],
            r"account faculty may run no jobs \(its GrpJobs or MaxJobs is 0\)",
        ),
        # Whichever of a job's and of all jobs' minutes is less.
        (
            Profile(time="60"),
            Resources(4, "0", "2G"),
            [limits._limit("QOS day", "", "", times=["cpu=600,mem=9G", "cpu=200"])],
            r"cpus-per-task .* QOS day allows a job times its minutes \(cpu=200\)",
        ),
        (
            Profile(time="9"),
            Resources(4, "0", "2G", None, 2, 2),
            [limits._limit("QOS slim", "", "", node="cpu=7")],
            r"cpus-per-task .* QOS slim allows a job on a node \(cpu=7\)",
        ),
        (
            Profile(time="9"),
            Resources(3, "0", "2G", None, 4, 2),
            [limits._limit("QOS slim", "", "", node="cpu=7")],
            "",
        ),
        (
            Profile(time="9"),
            SMALL,
            [limits._limit("QOS gpu", "", "")._replace(least={"gres/gpu": "1"})],
            r"gpus asks for less than QOS gpu wants of a job \(gres/gpu=1\)",
        ),
        # What a QOS says stands above the account's.
        (Profile(time="31"), SMALL, [limits._limit("QOS long", "1-00:00:00", ""), LAB], ""),
        (Profile(time="9"), SMALL, [limits._limit("QOS brief", "00:05:00", ""), LAB], "QOS brief"),
    ],
)
def test_limits_that_would_let_a_job_wait_for_ever(
    profile: Profile, resources: Resources, found: list[limits.JobLimit], message: str
) -> None:
    if not message:
        check_job(profile, resources, found)
        return
    with pytest.raises(UserError, match=message):
        check_job(profile, resources, found)


# What `scontrol --oneliner show partition` says, shortened.
PARTITIONS = """\
PartitionName=main AllowGroups=ALL AllowQos=ALL Default=YES QoS=narrow State=UP
PartitionName=short AllowGroups=ALL AllowQos=ALL Default=NO QoS=narrow State=UP
PartitionName=long AllowGroups=ALL AllowQos=ALL Default=NO QoS=N/A State=UP
"""


@pytest.mark.parametrize(
    ("partition", "qoses"),
    [
        (None, ["narrow"]),
        ("short", ["narrow"]),
        ("short,main", ["narrow", "narrow"]),
        ("short,long", ["narrow", None]),
        ("long", [None]),
        ("none", []),
    ],
)
def test_the_qos_of_partitions(
    monkeypatch: pytest.MonkeyPatch, partition: str | None, qoses: list[str | None]
) -> None:
    monkeypatch.setattr(partitions.commands, "ask", lambda command, patience: PARTITIONS)
    assert [found.qos for found in partitions.chosen_partitions(partition)] == qoses


@pytest.mark.parametrize(
    ("line", "accounts", "qos", "reason"),
    [
        ("AllowAccounts=ALL AllowQos=ALL", ("lab",), "normal", None),
        ("AllowAccounts=vision,speech", ("lab", "root"), "normal", "account lab .*vision, speech"),
        ("AllowAccounts=vision,root", ("lab", "root"), "normal", None),  # lies in one that may
        ("AllowAccounts=vision", (), "", None),  # nobody knows whose it will be
        ("DenyAccounts=lab,guests", ("lab", "root"), "normal", "account lab .*DenyAccounts"),
        ("AllowQos=NORMAL", ("lab",), "normal", None),  # Slurm compares them so
        ("DenyAccounts=root", ("lab", "root"), "normal", None),
        ("AllowQos=high", ("lab",), "normal", r"QOS normal \(it takes high\)"),
        ("AllowQos=high", ("lab",), "", None),
        ("DenyQos=normal", ("lab",), "normal", r"QOS normal \(its DenyQos\)"),
    ],
)
def test_whom_a_partition_excludes(
    line: str, accounts: tuple[str, ...], qos: str, reason: str | None
) -> None:
    partition = partitions.parse_partition(f"PartitionName=gpu {line} State=UP")
    affiliation = limits.Affiliation(accounts, qos, ())
    if reason is None:
        check_doors(Profile(), partition, affiliation)
        return
    with pytest.raises(UserError, match=f"partition gpu excludes {reason}.*wait for ever"):
        check_doors(Profile(), partition, affiliation)


# What sacctmgr says, in the order of the columns that are asked for.
ASSOC = "lab||normal|root|big||||||||\n"
NARROW = "narrow|00:04:00|||||||||2|||\n"


@pytest.mark.parametrize(
    ("partition", "time", "said"),
    [
        ("short", "5", r"time 5 is more than QOS narrow allows a job \(4 minutes\)"),
        ("short,main", "5", "time 5 is more than QOS narrow"),
        ("short,long", "5", None),  # it starts in the other one
        ("short", "4", "QOS narrow runs at most 2 jobs at a time; others wait for their turn"),
        ("down", "5", "partition down is down: what is sent waits until .* start it again"),
        ("down,long", "5", None),
        ("closed", "5", "partition closed excludes account lab .*vision"),
        ("closed,long", "5", None),
    ],
)
def test_a_partition_that_takes_the_job_is_enough(
    monkeypatch: pytest.MonkeyPatch, partition: str, time: str, said: str | None
) -> None:
    more = (
        "PartitionName=down AllowAccounts=ALL QoS=N/A State=DOWN\n"
        "PartitionName=closed AllowAccounts=vision QoS=N/A State=UP\n"
    )
    answers = {
        "show partition": PARTITIONS + more,
        "assoc user": ASSOC,
        "assoc account=lab": "root||\n",
        "assoc account=root": "||\n",
        "qos narrow": NARROW,
        "qos normal": "normal||||||||||||||\n".replace("||\n", "\n"),
    }

    def ask(command: list[str], patience: float) -> str:
        return next(text for words, text in answers.items() if words in " ".join(command))

    monkeypatch.setattr(limits.commands, "ask", ask)
    profile = Profile(partition=partition, time=time)
    if said is not None and "jobs at a time" not in said and "is down" not in said:
        with pytest.raises(UserError, match=said):
            check_limits(profile, SMALL)
        return
    note = check_limits(profile, SMALL)
    assert (note is None) == (said is None)
    if said is not None and note is not None:
        assert re.search(said, note)


def _job_limits(**says: limits.JobLimit) -> list[limits.JobLimit]:
    """The limits in force: of the partition's QOS, the job's, the account's and one above."""
    partition = partitions.Partition("main", qos="part" if "part" in says else None)
    chain = tuple(says[name] for name in ("lab", "root") if name in says)
    owner = limits.Affiliation(("lab", "root"), "job" if "job" in says else "", chain)
    return limits.job_limits(partition, owner, lambda qos: [says[qos]])


def test_the_first_qos_that_says_anything_stands() -> None:
    """As seen on Slurm 22.05, which runs each of the jobs that are taken here."""
    two = Resources(2, "0", "2G")
    part = limits._limit("QOS part", "", "", "cpu=100")
    job = limits._limit("QOS job", "", "", "cpu=1")
    check_job(Profile(time="9"), two, _job_limits(part=part, job=job))
    with pytest.raises(UserError, match="QOS job allows all its jobs together"):
        check_job(Profile(time="9"), two, _job_limits(job=job))
    # Another kind is another matter: what one user may have.
    mine = limits._limit("QOS job", "", "", "", "cpu=1")
    with pytest.raises(UserError, match="QOS job allows all its jobs together"):
        check_job(Profile(time="9"), two, _job_limits(part=part, job=mine))


def test_a_qos_above_the_partitions() -> None:
    part = limits._limit("QOS part", "00:30:00", "")
    job = limits._limit("QOS job", "7-00:00:00", "")
    with pytest.raises(UserError, match="QOS part"):
        check_job(Profile(time="60"), SMALL, _job_limits(part=part, job=job))
    over = job._replace(over=True)
    check_job(Profile(time="60"), SMALL, _job_limits(part=part, job=over))


def test_a_qos_hides_the_same_number_of_jobs_of_an_account() -> None:
    most, group = (
        limits._limit("account lab", "", "", jobs=jobs) for jobs in (["0", ""], ["", "0"])
    )
    few = limits._limit("QOS job", "", "", jobs=["5", "", ""])
    all_of_it = limits._limit("QOS job", "", "", jobs=["", "", "5"])
    check_job(Profile(time="9"), SMALL, _job_limits(job=few, lab=most))
    check_job(Profile(time="9"), SMALL, _job_limits(job=all_of_it, lab=group))
    for found in (_job_limits(job=few, lab=group), _job_limits(job=all_of_it, lab=most)):
        with pytest.raises(UserError, match="account lab may run no jobs"):
            check_job(Profile(time="9"), SMALL, found)


def test_flags_of_a_qos(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "half|01:00:00|cpu=50|cpu=50||||cpu=2||||||{}\n"

    def asked(flags: str) -> limits.JobLimit:
        answer = line.format(flags)
        monkeypatch.setattr(limits.commands, "ask", lambda command, patience: answer)
        (limit,) = limits.qos_limits("half")
        return limit

    assert asked("").tres == {"cpu": "50"}
    assert asked("DenyOnLimit,OverPartQOS").over
    relative = asked("Relative")  # percentages
    assert (relative.minutes, relative.tres, relative.together) == (60, {}, {})
    assert relative.least == {}


def test_the_associations_of_another_cluster_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (
        "lab||normal|normal|other|00:10:00|||||||\nlab||normal|normal|big||||||||\n"
        "a banner\nlab||normal|normal|third|00:01:00|||||||\n"
    )

    def ask(command: list[str], patience: float) -> str:
        return rows if any(word.startswith("user=") and word != "user=" for word in command) else ""

    monkeypatch.setattr(limits.commands, "ask", ask)
    found = limits.read_affiliation(Profile(), "Big")
    assert found is not None
    assert [limit.minutes for limit in found.limits] == [None, None]
    assert limits.read_affiliation(Profile(), "elsewhere") is None


@pytest.mark.parametrize(
    ("default", "allowed", "qos"),
    [
        ("", "normal", "normal"),
        ("", "long", "long"),
        ("", "long,normal", "normal"),
        ("", "brief,long", ""),
        ("", "", ""),
        ("", "+long", ""),
        ("brief", "brief,normal", "brief"),
    ],
)
def test_the_qos_of_jobs_that_name_none(
    monkeypatch: pytest.MonkeyPatch, default: str, allowed: str, qos: str
) -> None:
    row = f"lab||{default}|{allowed}|big||||||||\n"

    def ask(command: list[str], patience: float) -> str:
        return row if any(word.startswith("user=") and word != "user=" for word in command) else ""

    monkeypatch.setattr(limits.commands, "ask", ask)
    for profile, wanted in ((Profile(), qos), (Profile(qos="mine"), "mine")):
        found = limits.read_affiliation(profile, "big")
        assert found is not None
        assert found.qos == wanted


def test_a_banner_before_an_accounts_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["Welcome\n\nroot|cpu=4|2\n", "\n"])
    monkeypatch.setattr(limits.commands, "ask", lambda command, patience: next(answers))
    lab, root = limits._above("lab", "big")
    assert (lab.group, lab.group_jobs, root.group) == ({"cpu": "4"}, 2, {})


def test_a_job_may_be_given_more_cpus_than_it_asks_for() -> None:
    whole = limits._limit("QOS whole", "", "")._replace(least={"cpu": "4"})
    check_job(Profile(time="9", exclusive=True), SMALL, [whole])


def test_limits_that_cannot_be_read_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(command: list[str], patience: float) -> NoReturn:
        raise SlurmError("sacctmgr: Unknown field 'MaxTRESPerNode'\nmore")

    monkeypatch.setattr(limits.commands, "ask", fails)
    said = "no limits of accounts and QOS were looked at: sacctmgr: Unknown field 'MaxTRESPerNode'"
    assert check_limits(Profile(), SMALL) == said
