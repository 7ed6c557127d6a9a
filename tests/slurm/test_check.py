from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.base.yamlfile import parse_yaml, validate
from benchmark.slurm import check, limits, partitions
from benchmark.slurm.check import check_nodes, check_profile, parse_node
from benchmark.slurm.commands import ClusterLimits, Reply
from benchmark.slurm.init_profile import profile_path, profile_text
from benchmark.slurm.profile import Profile, Resources, apply_caps
from benchmark.slurm.site import Site

# What `sinfo --format=%P|%l|%G|%c|%m|%T|%a` prints on clusters of several kinds.
NODES = [
    parse_node(line)
    for line in (
        "cpu*|1-00:00:00|(null)|64|256000|idle|up",
        "gpu|12:00:00|gpu:a100:4(S:0-1)|32|512000|mixed|up",
        "gpu|12:00:00|gpu:v100:2(S:0),shard:8|16|128000|drained*|up",
        "long|infinite|gpu:2|8|64000|idle|inact",
    )
]
SMALL = Resources(1, "0", "2G")
FINE = Reply(0, "", "", 0.1)


def test_what_sinfo_prints_is_understood() -> None:
    assert [node.default for node in NODES] == [True, False, False, False]
    assert [node.minutes for node in NODES] == [1440, 720, 720, math.inf]
    assert [node.gpus for node in NODES] == [
        {"": 0}, {"": 4, "a100": 4}, {"": 2, "v100": 2}, {"": 2},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("profile", "resources"),
    [
        (Profile(), SMALL),
        (Profile(partition="gpu", time="12:00:00"), Resources(32, "a100:4", "0")),
        (Profile(partition="cpu,gpu", time="1-0"), Resources(64, "0", "250G")),
        (Profile(partition="long", time="UNLIMITED"), Resources(8, "2", "2G")),
    ],
)
def test_what_a_cluster_offers_passes(profile: Profile, resources: Resources) -> None:
    check_nodes(profile, resources, NODES)


@pytest.mark.parametrize(
    ("profile", "resources", "message"),
    [
        (Profile(partition="gpus"), SMALL, "unknown partition 'gpus'.*did you mean 'gpu'"),
        (Profile(partition="gpu"), SMALL, r"time 24:00:00 is over the limit.*\(12:00:00\)"),
        (Profile(), Resources(1, "1", "2G"), r"gpus 1 is more than any node.*\(0\)"),
        (
            Profile(partition="gpu", time="60"),
            Resources(1, "8", "2G"),
            "gpus 8 is more than any.*a100:4, v100:2",
        ),
        (
            Profile(partition="gpu", time="60"),
            Resources(1, "h100", "2G"),
            r"partition gpu has no GPU of type h100 \(types: a100, v100\)",
        ),
        (Profile(), Resources(65, "0", "2G"), "cpus-per-task 65 is more"),
        (Profile(), Resources(1, "0", "251G"), "mem 251G is more"),
    ],
)
def test_what_no_node_offers_is_refused(
    profile: Profile, resources: Resources, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check_nodes(profile, resources, NODES)


def test_a_controller_that_has_just_started_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until its nodes have registered it calls every job too large."""
    text = "allocation failure: Requested node configuration is not available\n"
    replies = [Reply(1, "", text, 0.1)] * 2
    monkeypatch.setattr(check.commands, "call", lambda _: replies.pop() if replies else FINE)
    monkeypatch.setattr(check, "_RETRY_SECONDS", 0.0)
    check_profile(Profile(), SMALL, NODES)
    assert replies == []
    monkeypatch.setattr(check.commands, "call", lambda _: Reply(1, "", text, 0.1))
    with pytest.raises(UserError, match="node configuration is not available"):
        check_profile(Profile(), SMALL, NODES)


def test_nodes_that_are_away_now_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """sbatch --test-only then says what it says of a job that no node will ever fit."""
    text = "allocation failure: Requested node configuration is not available\n"
    monkeypatch.setattr(check.commands, "call", lambda _: Reply(1, "", text, 0.1))
    monkeypatch.setattr(check, "_RETRY_SECONDS", 0.0)
    away = [parse_node(f"main*|infinite|(null)|64|256000|{s}|up") for s in ("drained", "down*")]
    note = check_profile(Profile(), SMALL, away)
    assert note is not None
    assert "partition main are drained, down or reserved: what is sent waits" in note
    with pytest.raises(UserError, match="cpus-per-task 65 is more"):
        check_profile(Profile(), Resources(65, "0", "2G"), away)
    with pytest.raises(UserError, match="node configuration is not available"):
        check_profile(Profile(), SMALL, [*away, parse_node("main*|60|(null)|1|9000|mixed|up")])


def test_parts_of_gpus_are_types_of_their_own() -> None:
    nodes = [parse_node("mig*|infinite|gpu:1g.5gb:7(S:0),gpu:3g.39gb:1(S:1)|8|64000|idle|up")]
    assert nodes[0].gpus == {"": 8, "1g.5gb": 7, "3g.39gb": 1}
    for gpus in ("1g.5gb:7", "3g.39gb", "2"):
        check_nodes(Profile(), Resources(1, gpus, "2G"), nodes)
    with pytest.raises(UserError, match=r"no GPU of type 2g\.10gb \(types: 1g\.5gb, 3g\.39gb\)"):
        check_nodes(Profile(), Resources(1, "2g.10gb:1", "2G"), nodes)
    with pytest.raises(UserError, match=r"gpus 3g\.39gb:2 is more than any node"):
        check_nodes(Profile(), Resources(1, "3g.39gb:2", "2G"), nodes)


def test_nodes_without_configured_memory_take_no_amount() -> None:
    nodes = [parse_node("main*|infinite|(null)|64|1|idle|up")]
    with pytest.raises(UserError, match=r"no memory configured.*set 'mem: none' in the profile"):
        check_nodes(Profile(), SMALL, nodes)
    check_nodes(Profile(), Profile(mem="none").resources(1, False), nodes)


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
        limits.check_job(profile, resources, found)
        return
    with pytest.raises(UserError, match=message):
        limits.check_job(profile, resources, found)


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
        limits.check_doors(Profile(), partition, affiliation)
        return
    with pytest.raises(UserError, match=f"partition gpu excludes {reason}.*wait for ever"):
        limits.check_doors(Profile(), partition, affiliation)


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
            limits.check_limits(profile, SMALL)
        return
    note = limits.check_limits(profile, SMALL)
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
    limits.check_job(Profile(time="9"), two, _job_limits(part=part, job=job))
    with pytest.raises(UserError, match="QOS job allows all its jobs together"):
        limits.check_job(Profile(time="9"), two, _job_limits(job=job))
    # Another kind is another matter: what one user may have.
    mine = limits._limit("QOS job", "", "", "", "cpu=1")
    with pytest.raises(UserError, match="QOS job allows all its jobs together"):
        limits.check_job(Profile(time="9"), two, _job_limits(part=part, job=mine))


def test_a_qos_above_the_partitions() -> None:
    part = limits._limit("QOS part", "00:30:00", "")
    job = limits._limit("QOS job", "7-00:00:00", "")
    with pytest.raises(UserError, match="QOS part"):
        limits.check_job(Profile(time="60"), SMALL, _job_limits(part=part, job=job))
    over = job._replace(over=True)
    limits.check_job(Profile(time="60"), SMALL, _job_limits(part=part, job=over))


def test_a_qos_hides_the_same_number_of_jobs_of_an_account() -> None:
    most, group = (
        limits._limit("account lab", "", "", jobs=jobs) for jobs in (["0", ""], ["", "0"])
    )
    few = limits._limit("QOS job", "", "", jobs=["5", "", ""])
    all_of_it = limits._limit("QOS job", "", "", jobs=["", "", "5"])
    limits.check_job(Profile(time="9"), SMALL, _job_limits(job=few, lab=most))
    limits.check_job(Profile(time="9"), SMALL, _job_limits(job=all_of_it, lab=group))
    for found in (_job_limits(job=few, lab=group), _job_limits(job=all_of_it, lab=most)):
        with pytest.raises(UserError, match="account lab may run no jobs"):
            limits.check_job(Profile(time="9"), SMALL, found)


def test_flags_of_a_qos(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "half|01:00:00|cpu=50|cpu=50||||cpu=2||||||{}\n"

    def asked(flags: str) -> limits.JobLimit:
        answer = line.format(flags)
        monkeypatch.setattr(limits.commands, "ask", lambda command, patience: answer)
        (limit,) = limits._of_qos("half")
        return limit

    assert asked("").tres == {"cpu": "50"}
    assert asked("DenyOnLimit,OverPartQOS").over
    relative = asked("Relative")  # percentages
    assert (relative.minutes, relative.tres, relative.together) == (60, {}, {})
    assert relative.least == {}


def test_the_associations_of_another_cluster_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (
        "lab||normal|root|other|00:10:00|||||||\nlab||normal|root|big||||||||\n"
        "a banner\nlab||normal|root|third|00:01:00|||||||\n"
    )

    def ask(command: list[str], patience: float) -> str:
        return rows if any(word.startswith("user=") and word != "user=" for word in command) else ""

    monkeypatch.setattr(limits.commands, "ask", ask)
    found = limits.read_affiliation(Profile(), "Big")
    assert found is not None
    assert [limit.minutes for limit in found.limits] == [None, None]
    assert limits.read_affiliation(Profile(), "elsewhere") is None


def test_a_banner_before_an_accounts_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["Welcome\n\nroot|cpu=4|2\n", "\n"])
    monkeypatch.setattr(limits.commands, "ask", lambda command, patience: next(answers))
    lab, root = limits._above("lab", "big")
    assert (lab.group, lab.group_jobs, root.group) == ({"cpu": "4"}, 2, {})


def test_a_job_may_be_given_more_cpus_than_it_asks_for() -> None:
    whole = limits._limit("QOS whole", "", "")._replace(least={"cpu": "4"})
    limits.check_job(Profile(time="9", exclusive=True), SMALL, [whole])


def test_a_cluster_without_a_default_partition_asks_for_one() -> None:
    with pytest.raises(UserError, match=r"no default partition: set partition.*gpu"):
        check_nodes(Profile(), SMALL, NODES[1:])


def test_where_a_profile_is_written() -> None:
    assert profile_path(None) is None
    assert profile_path("mine") == Path("slurm/profiles/mine.yaml")
    assert profile_path("x/mine.yaml") == Path("x/mine.yaml")


def test_a_first_profile_is_valid_and_passes_its_own_check() -> None:
    limits = ClusterLimits("big", "23.11.1", 1001, 10000, True)
    text = profile_text(limits, NODES, ["vision"], ["normal", "high"])
    profile = validate(Profile, parse_yaml(text, "big.yaml"), "big.yaml")
    # The default partition has no GPUs, so the first that has some is proposed.
    assert (profile.partition, profile.account, profile.time) == ("gpu", "vision", "12:00:00")
    assert "# partition: long" in text
    check_nodes(apply_caps(profile, Site()), Resources(1, "1", "2G"), NODES)
