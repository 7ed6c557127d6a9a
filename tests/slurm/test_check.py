from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.base.yamlfile import parse_yaml, validate
from benchmark.slurm import check
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
