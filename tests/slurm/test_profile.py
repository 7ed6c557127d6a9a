from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from benchmark.base.errors import UserError
from benchmark.base.yamlfile import parse_yaml, validate
from benchmark.slurm import site as module
from benchmark.slurm.profile import (
    PACKAGED,
    Profile,
    Resources,
    apply_caps,
    cap_resources,
    load_profile,
    profile_files,
)
from benchmark.slurm.script import test_options as options
from benchmark.slurm.site import Caps, Site, load_site


def _write(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_shipped_profiles_are_valid_and_documented() -> None:
    names = set(profile_files())
    assert {"default", "gpu-account", "preemptible", "cpu"} <= names
    for name in names:
        assert load_profile(name, Site()).name == name
    documented = Path(PACKAGED / "default.yaml").read_text(encoding="utf-8")
    for name, field in Profile.model_fields.items():
        assert f"{field.alias or name}:" in documented


def test_what_is_not_set_follows_the_recipe() -> None:
    assert Profile().resources(4, cuda=False) == Resources(4, "0", "2G")
    assert Profile().resources(4, cuda=True) == Resources(4, "1", "2G")
    mine = Profile(gpus="a100:2", mem="8G", **{"cpus-per-task": 16})
    assert mine.resources(4, cuda=False) == Resources(16, "a100:2", "8G")


def test_memory_is_asked_for_a_node_for_a_cpu_or_not_at_all() -> None:
    node = Profile(mem="8G").resources(4, cuda=False)
    each = Profile(**{"mem-per-cpu": "500M"}).resources(4, cuda=False)
    none = Profile(mem="none").resources(4, cuda=False)
    found = [[o for o in options(Profile(), need) if "mem" in o] for need in (node, each, none)]
    assert found == [["--mem=8G"], ["--mem-per-cpu=500M"], []]
    assert [need.megabytes for need in (node, each, none)] == [8192, 2000, math.inf]
    site = Site(caps=Caps(mem="2G"))
    capped = apply_caps(Profile(**{"mem-per-cpu": "500M"}), site)
    assert cap_resources(capped, capped.resources(4, False), site) == each
    with pytest.raises(UserError, match=r"mem-per-cpu 500M for 8 CPUs is more than this site"):
        cap_resources(capped, capped.resources(8, False), site)
    forbids = Site(caps=Caps(**{"forbidden-options": ["mem"]}))
    assert options(apply_caps(Profile(), forbids), apply_caps(Profile(), forbids).resources(1, 0))
    assert apply_caps(Profile(), forbids).mem == "none"


def test_what_people_ask_for_besides_goes_to_sbatch_as_it_stands() -> None:
    text = """{nodelist: n2, exclusive: true, reservation: course, licenses: 'nvlink:1',
        gres: 'tmp:20G', hint: nomultithread, export: NONE, mail-type: END, mail-user: me@x.org,
        constraint: a100, exclude: n1, wckey: mine, options: [--nice=100, --contiguous]}"""
    profile = validate(Profile, parse_yaml(text, "p"), "p")
    asked = set(options(profile, Resources(1, "0", "2G")))
    assert asked >= {
        "--nodelist=n2", "--exclusive", "--reservation=course", "--licenses=nvlink:1",
        "--gres=tmp:20G", "--hint=nomultithread", "--export=NONE", "--mail-type=END",
        "--mail-user=me@x.org", "--constraint=a100", "--exclude=n1", "--wckey=mine",
        "--nice=100", "--contiguous",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"options": ["--gpus-per-task=8"]}, "so --gpus-per-task is not allowed here; write gpus"),
        ({"options": ["--tres-per-task=gres/gpu:8"]}, "caps gpus at 2, so --tres-per-task is not"),
        ({"options": ["--mem-per-gpu=90G"]}, "caps mem at 4G, so --mem-per-gpu is not"),
        ({"options": ["--cpus-per-gpu=90"]}, "caps cpus-per-task at 4, so --cpus-per-gpu is not"),
        ({"exclusive": True}, "caps gpus at 2, and exclusive asks for all that a node has"),
    ],
)
def test_what_passes_a_cap_by_is_refused(asked: dict[str, Any], message: str) -> None:
    profile, free = Profile(**asked), Site()
    site = Site(caps=Caps(gpus=2, mem="4G", **{"cpus-per-task": 4}))
    resources = profile.resources(1, cuda=True)
    assert cap_resources(profile, resources, free) == resources
    with pytest.raises(UserError, match=message):
        cap_resources(profile, resources, site)
    allowed = Profile(options=["--nice=5"], exclusive="user")
    assert cap_resources(allowed, resources, site) == resources


@pytest.mark.parametrize("forbidden", ["reservation", "--nice", "qos"])
def test_a_site_forbids_options_by_their_names(forbidden: str) -> None:
    asks = {"reservation": "course", "options": ["--nice=100"], "qos": "high"}
    site = Site(caps=Caps(**{"forbidden-options": [forbidden]}))
    with pytest.raises(UserError, match=f"this site does not allow {forbidden}"):
        apply_caps(Profile(**asks), site)
    assert apply_caps(Profile(account="lab"), site).account == "lab"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partitoin: gpu", "unknown key 'partitoin'.*did you mean 'partition'"),
        ("time: 24:00:00", "time: write it in quotes"),  # YAML reads the number 86400
        ("time: '1 day'", "not a time limit"),
        ("mem: 4Q", "not an amount of memory"),
        ("gpus: -1", "not a number of GPUs"),
        ("setup: module load x", "setup: write a list of lines, each after '- '"),
        ("array-parallelism: 0", "greater than or equal to 1"),
        ("{mem: 1G, mem-per-cpu: 1G}", "mem and mem-per-cpu exclude each other"),
        ("gres: gpu:2", "write GPUs as gpus, such as 'gpus: a100:1'"),
        ("options: ['-N 2']", "'-N 2' is no option; write '--name=value'"),
        ("options: [--nic=1]", "sbatch has no option --nic; did you mean 'nice'"),
        ("options: [--array=0-9]", "--array is set by bench itself"),
        ("options: [--partition=gpu]", "--partition has a key of its own: partition"),
        ("options: [--gpus-per-node=1]", "--gpus-per-node has a key of its own: gpus"),
        ("{time: '2', signal-seconds: 120}", "signal-seconds 120 is not less than time 2"),
        ("{time: '2'}", "signal-seconds 90 .* time 2, less the minute .* may signal early"),
        ("- partition", "expected a mapping"),
        ("partition: a\npartition: b", "stands twice"),
    ],
)
def test_a_wrong_profile_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load_profile(_write(tmp_path, text))
    assert "mine.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_profile_of_another_cluster_is_used_where_all_commands_ask_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path, "clusters: other")
    monkeypatch.delenv("SLURM_CLUSTERS", raising=False)
    with pytest.raises(UserError, match="for the cluster other: export SLURM_CLUSTERS=other"):
        load_profile(path)
    monkeypatch.setenv("SLURM_CLUSTERS", "other")
    assert load_profile(path).clusters == "other"


def test_an_unknown_profile_names_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown profile 'preemptable'; did you mean 'preempt"):
        load_profile("preemptable")


def test_caps_cannot_be_exceeded_and_are_limits_where_none_is_set() -> None:
    caps = Caps(time="12:00:00", partitions=("gpu",), **{"array-parallelism": 8, "max-jobs": 100})
    site = Site(caps=caps)
    fine = apply_caps(Profile(partition="gpu", time="10:00:00"), site)
    assert (fine.array_parallelism, fine.max_jobs) == (8, 100)
    assert (
        apply_caps(
            Profile(partition="gpu", time="600", **{"array-parallelism": 2}), site
        ).array_parallelism
        == 2
    )
    for wrong in (
        Profile(partition="gpu", time="13:00:00"),
        Profile(partition="gpu", time="UNLIMITED"),
        Profile(partition="gpu", time="60", **{"array-parallelism": 9}),
    ):
        with pytest.raises(UserError, match="more than this site allows"):
            apply_caps(wrong, site)
    with pytest.raises(UserError, match="partition long is not one of"):
        apply_caps(Profile(partition="gpu,long", time="60"), site)
    with pytest.raises(UserError, match=r"partition \(default\) is not one of"):
        apply_caps(Profile(time="60"), site)
    several = Site(caps=Caps(partitions=("main", "low")))
    assert apply_caps(Profile(partition="main,low"), several).partition == "main,low"


@pytest.mark.parametrize(
    ("time", "mem", "expected"),
    [("12:00:00", "1G", ("12:00:00", "1G")), ("2-0", "64G", ("24:00:00", "2G"))],
)
def test_time_and_memory_that_are_not_set_follow_the_caps(
    time: str, mem: str, expected: tuple[str, str]
) -> None:
    site = Site(caps=Caps(time=time, mem=mem))
    followed = apply_caps(Profile(), site)
    assert (followed.time, cap_resources(followed, followed.resources(1, False), site).mem) == (
        expected
    )
    assert load_profile("default", site).time == expected[0]
    with pytest.raises(UserError, match="signal-seconds 90 is not less than time 1, the most"):
        apply_caps(Profile(), Site(caps=Caps(time="1")))
    with pytest.raises(UserError, match="time 3-0 is more than this site allows"):
        apply_caps(Profile(time="3-0"), site)


def test_caps_hold_for_what_the_recipe_asks_too() -> None:
    site = Site(caps=Caps(gpus=0, mem="4G", **{"cpus-per-task": 4}))
    assert cap_resources(Profile(), Resources(4, "0", "4G"), site).cpus == 4
    for wanted in (Resources(5, "0", "1G"), Resources(1, "1", "1G"), Resources(1, "0", "0")):
        with pytest.raises(UserError, match="more than this site allows"):
            cap_resources(Profile(), wanted, site)


def test_the_sites_own_file_wins_over_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, site = tmp_path / "chosen.yaml", tmp_path / "site.yaml"
    chosen.write_text("caps: {max-jobs: 10}", encoding="utf-8")
    monkeypatch.setenv("BENCH_SITE", str(chosen))
    monkeypatch.setattr(module, "SITE_FILE", site)
    assert load_site().caps.max_jobs == 10
    site.write_text("caps: {max-jobs: 5}", encoding="utf-8")
    assert load_site().caps.max_jobs == 5
    site.write_text("cap: {}", encoding="utf-8")
    with pytest.raises(UserError, match="did you mean 'caps'"):
        load_site()


@pytest.mark.parametrize(
    ("profile", "cuda", "replicas", "expected"),
    [
        ({}, True, 4, (1, 1)),  # one GPU, which is the default
        ({"gpus": "8"}, True, 4, (1, 4)),
        ({"gpus": "a100:2"}, True, 4, (1, 2)),
        ({"gpus": "4", "nodes": 2}, True, 8, (2, 4)),
        ({"gpus": "4", "nodes": 2}, True, 4, (2, 2)),
        ({"gpus": "4"}, True, 1, (1, 1)),
        ({}, False, 4, (1, 1)),
        ({"ntasks-per-node": 2}, False, 4, (1, 2)),
        ({"ntasks-per-node": 2, "nodes": 2}, False, 4, (2, 2)),
    ],
)
def test_processes_of_a_run(
    profile: dict[str, Any], cuda: bool, replicas: int, expected: tuple[int, int]
) -> None:
    found = Profile.model_validate(profile).resources(1, cuda, replicas)
    assert (found.nodes, found.tasks) == expected
    assert found.processes == expected[0] * expected[1] <= replicas


@pytest.mark.parametrize(
    ("profile", "replicas"),
    [({"nodes": 2}, 1), ({"ntasks-per-node": 4}, 2), ({"nodes": 2, "ntasks-per-node": 2}, 3)],
)
def test_more_processes_than_replicas(profile: dict[str, Any], replicas: int) -> None:
    with pytest.raises(UserError, match=f"more processes than recipe.replicas {replicas}"):
        Profile.model_validate(profile).resources(1, False, replicas)
