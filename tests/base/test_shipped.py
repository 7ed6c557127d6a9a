"""Where shipped files and the user's own are found."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.base.shipped import shipped
from benchmark.slurm.profile import load_profile, profile_files
from benchmark.slurm.site import Site
from benchmark.table.load import find_table, table_files
from benchmark.table.teachers import registered, registry

ENTRY = """
schema: 1
teachers:
  - {dataset: cifar100, model: NAME, file: mine.pth, accuracy: 70.5, license: ours, source: us}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own folder, and an empty current one."""
    here, config = tmp_path / "here", tmp_path / "config"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(config))
    folder = config / "bench"
    (folder / "tables").mkdir(parents=True)
    (folder / "profiles").mkdir()
    return folder


def test_the_shipped_files_are_there() -> None:
    assert shipped("tables/digits.yaml").is_file()
    assert shipped("slurm/profiles/default.yaml").is_file()
    assert shipped("perf/method_costs.json").is_file()
    assert shipped("perf/operations.json").is_file()


def test_tables_of_the_users_own_folder_stand_between_here_and_the_shipped(own: Path) -> None:
    text = shipped("tables/digits.yaml").read_text()
    (own / "tables" / "digits.yaml").write_text(text)
    (own / "tables" / "mine.yaml").write_text(text.replace("name: digits", "name: mine"))
    assert find_table("digits") == own / "tables" / "digits.yaml"
    assert {"mine", "cifar100"} <= set(table_files())
    Path("tables").mkdir()
    Path("tables/digits.yaml").write_text(text)
    assert find_table("digits") == Path("tables/digits.yaml")


def test_a_table_that_a_stranger_could_have_changed_is_named(
    own: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Path("tables").mkdir()
    Path("tables/strange.yaml").write_text(shipped("tables/digits.yaml").read_text())
    with caplog.at_level(logging.INFO, logger="benchmark"):
        find_table("strange")
        assert not caplog.text
        Path("tables").chmod(0o777)
        Path("tables/other.yaml").write_text("")
        find_table("other")
        find_table("other")
        find_table("tables/other.yaml")
    assert caplog.text.count("table other is tables/other.yaml, which another user could") == 1


def test_the_users_own_registry_adds_and_replaces(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(registry().teachers)
    (own / "registry.yaml").write_text(ENTRY.replace("NAME", "resnet8"))
    assert registered("cifar100", "resnet8") is not None
    assert len(registry().teachers) == before + 1
    other = own / "other.yaml"
    other.write_text(ENTRY.replace("NAME", "resnet56"))
    monkeypatch.setenv("BENCH_REGISTRY", str(other))
    found = registered("cifar100", "resnet56")
    assert found is not None
    assert found.accuracy == 70.5
    assert registered("cifar100", "resnet8") is None
    assert len(registry().teachers) == before
    monkeypatch.setenv("BENCH_REGISTRY", str(own / "nowhere.yaml"))
    with pytest.raises(UserError, match=r"cannot read .*nowhere\.yaml"):
        registry()


def test_a_profile_that_a_stranger_could_have_changed_must_be_named_by_path(
    own: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path("slurm/profiles")
    folder.mkdir(parents=True)
    (folder / "lab.yaml").write_text("partition: lab\nsetup: ['module load x']\n")
    assert load_profile("lab", Site()).partition == "lab"
    folder.chmod(0o777)
    with pytest.raises(UserError, match=r"slurm/profiles/lab\.yaml, which another user could"):
        load_profile("lab", Site())
    with caplog.at_level(logging.INFO, logger="benchmark"):
        assert load_profile("slurm/profiles/lab.yaml", Site()).partition == "lab"
    assert "its setup lines run in your jobs, and everybody may write" in caplog.text
    (own / "profiles" / "mine.yaml").write_text("partition: own\n")
    assert load_profile("mine", Site()).partition == "own"
    assert "default" in profile_files()
