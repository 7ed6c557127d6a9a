"""The index sees what is on the disk, names what it cannot count, and is never in the way."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import UserError
from benchmark.results import index as index_module
from benchmark.results import records
from benchmark.results.index import RunIndex
from benchmark.results.records import RunReader, cell_identity_of, identity_of
from benchmark.rundir import RunDir
from benchmark.runs import Run, digest
from tests.results.filled import edit, plan, runs_of, write


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Three finished runs in tmp_path / "runs"."""
    found = runs_of(plan(), "KD")[:3]
    write(tmp_path / "runs", found)
    return found


@pytest.fixture
def first(runs: list[Run], tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "runs", runs[0].key)


def refreshed(root: Path) -> RunIndex:
    index = RunIndex(root)
    index.refresh()
    return index


def states(index: RunIndex) -> dict[str, str]:
    return {run.key: run.state for run in index.all_runs()}


@pytest.mark.parametrize("table", ["cifar100", "digits", "thesis-4", "imagenet"])
def test_what_is_hashed_without_validation_is_the_runs_identity(table: str) -> None:
    planned = plan(table, only=())
    for run in planned.runs[:: max(1, len(planned.runs) // 40)]:
        data = json.loads(json.dumps(run.to_json()))
        assert identity_of(data) == run.identity
        assert cell_identity_of(identity_of(data)) == run.cell_identity


def test_a_run_is_indexed_with_its_numbers(runs: list[Run], tmp_path: Path) -> None:
    index = refreshed(tmp_path / "runs")
    (found,) = [run for run in index.all_runs() if run.key == runs[0].key]
    assert (found.cell, found.seed, found.state) == (runs[0].cell_key, 0, "done")
    assert runs[0].teacher is not None
    assert found.teacher == runs[0].teacher.key
    assert found.value("top1", "last") == 70.0
    assert found.value("top1", "best") == 70.05
    assert found.value("top5", "last") == 91.0
    assert index.cells([records.signature(runs[0])])[runs[0].cell_key][1] == runs[0].cell_identity


METRICS = {"last": 70.0, "best": 71.0, "median_of_last_5": 70.0, "mean_of_last_5": 70.0}


def with_top1(**changes: Any) -> dict[str, Any]:
    return {"metrics": {"top1": {**METRICS, **changes}, "top5": METRICS}}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema": 2}, "schema 2, this version reads 0 and 1"),
        ({"schema": "1"}, "not a file of this project"),
        ({"key": "cifar100-somebody-else-s0-0123456789ab"}, "is the result of cifar100-somebody"),
        ({"diverged": "no"}, "does not say whether it diverged"),
        ({"metrics": {}}, "has no top1 last"),
        ({"metrics": {"top1": METRICS}}, "has no top5 last"),
        (with_top1(last=float("nan")), "top1 last is nan, not a percentage"),
        (with_top1(best=float("inf")), "top1 best is inf"),
        (with_top1(last="70.1"), "top1 last is '70.1'"),
        (with_top1(last=True), "top1 last is True"),
        (with_top1(mean_of_last_5=100.5), "mean_of_last_5 is 100.5"),
        (with_top1(median_of_last_5=-1), "median_of_last_5 is -1"),
        ({"val_top1": float("nan")}, "val_top1 is nan"),
        (with_top1(best=69.5), "top1 best is 69.5, which is below the last, 70.0"),
    ],
)
def test_a_result_that_does_not_fit_is_named_and_not_counted(
    first: RunDir, changes: dict[str, Any], reason: str
) -> None:
    edit(first.result, **changes)
    index = refreshed(first.root)
    ((key, why),) = index.broken()
    assert key == first.key
    assert reason in why
    assert sorted(states(index).values()) == ["broken", "done", "done"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"schema": 1, "key": "', b"[1]", b"\xff\xfe", b"[" * 100_000]
)
@pytest.mark.parametrize("name", ["result", "cell"])
def test_a_damaged_file_is_named_and_not_counted(first: RunDir, content: bytes, name: str) -> None:
    path = getattr(first, name)
    path.write_bytes(content)
    index = refreshed(first.root)
    ((key, why),) = index.broken()
    assert key == first.key
    assert str(path) in why
    assert list(states(index).values()).count("done") == 2


def test_the_schema_before_this_one_is_read(first: RunDir) -> None:
    edit(first.result, schema=0)
    edit(first.cell, schema=0)
    assert refreshed(first.root).broken() == []


def test_a_file_that_is_far_too_long_is_not_read(
    first: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_LONGEST", 100)
    reasons = [why for _, why in refreshed(first.root).broken()]
    assert len(reasons) == 3
    assert all("is not a file of this project" in why for why in reasons)


@pytest.mark.parametrize("done", [True, False])
def test_a_copied_directory_is_no_second_run(first: RunDir, done: bool) -> None:
    if not done:
        first.result.unlink()
    copy = first.root / f"{first.key}-copy"
    shutil.copytree(first.path, copy)
    ((key, why),) = refreshed(first.root).broken()
    assert key == copy.name
    assert f"describes {first.key}" in why


def test_an_edited_cell_is_not_what_the_name_says(first: RunDir) -> None:
    data = json.loads(first.cell.read_text())
    edit(first.cell, recipe={**data["recipe"], "epochs": 1})
    ((key, why),) = refreshed(first.root).broken()
    assert key == first.key
    assert "renamed, copied or edited" in why


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"recipe": ...}, "does not describe a run: it has no 'recipe'"),
        ({"teacher": {}}, "does not describe a run: it has no 'source'"),
        ({"recipe": "crd_240"}, "does not describe a run: what it holds is of another form"),
        ({"seed": "0"}, "does not describe a run: the seed is '0'"),
        ({"methods": [1]}, "does not describe a run: what it holds is of another form"),
    ],
)
def test_a_cell_that_describes_no_run_is_told_in_a_sentence(
    first: RunDir, changes: dict[str, Any], reason: str
) -> None:
    data = {**json.loads(first.cell.read_text()), **changes}
    first.cell.write_text(json.dumps({k: v for k, v in data.items() if v is not ...}))
    ((key, why),) = refreshed(first.root).broken()
    assert key == first.key
    assert why == f"{first.cell} {reason}"


def test_a_result_without_a_cell_is_named(first: RunDir) -> None:
    first.cell.unlink()
    ((_, why),) = refreshed(first.root).broken()
    assert "has a result and no cell.json" in why


def test_a_run_of_another_version_of_the_project_has_a_cell_of_its_own(
    runs: list[Run], tmp_path: Path
) -> None:
    # As an older version spelt it: without a field, with another; the name is its hash.
    data = runs[0].to_json()
    del data["recipe"]["eval_batch"]
    data["recipe"]["warm_restart"] = 3
    key = f"{runs[0].slug}-s0-{digest(identity_of(data))}"
    root = tmp_path / "old"
    (root / key).mkdir(parents=True)
    (root / key / "cell.json").write_text(json.dumps(data))
    index = refreshed(root)
    assert index.broken() == []
    assert states(index) == {key: "open"}
    assert next(iter(index.all_cells())) != runs[0].cell_key


# -- keeping up -----------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the directories that are read, with files settled as soon as written."""
    names: list[str] = []
    real: Callable[..., Any] = RunReader.read

    def read(self: RunReader, name: str, stamp: Any) -> Any:
        names.append(name)
        return real(self, name, stamp)

    monkeypatch.setattr(RunReader, "read", read)
    monkeypatch.setattr(index_module, "_YOUNG_NS", 0)
    return names


def test_only_what_changed_is_read_again(first: RunDir, reads: list[str]) -> None:
    refreshed(first.root)
    assert len(reads) == 3
    edit(first.result, val_top1=12.5)  # in place: the directory's own time stays
    index = refreshed(first.root)
    assert reads[3:] == [first.key]
    assert {run.val_top1 for run in index.all_runs()} == {12.5, None}
    refreshed(first.root)
    assert len(reads) == 4


def test_a_change_that_keeps_length_and_modification_time_is_seen(
    first: RunDir, reads: list[str]
) -> None:
    refreshed(first.root)
    before = first.result.stat()
    text = first.result.read_text()
    first.result.write_text(text.replace('"last": 70.0', '"last": 60.0'))
    os.utime(first.result, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert first.result.stat().st_size == before.st_size
    values = {r.value("top1", "last") for r in refreshed(first.root).all_runs()}
    assert values == {70.0, 60.0}


def test_a_file_that_was_just_written_is_read_again(first: RunDir) -> None:
    # A second write within one step of the clock would leave the same stamp.
    assert refreshed(first.root)._database.execute(
        "select distinct stamp from runs"
    ).fetchall() == [("",)]


def test_what_is_gone_is_forgotten(first: RunDir, reads: list[str]) -> None:
    refreshed(first.root)
    shutil.rmtree(first.path)
    index = refreshed(first.root)
    assert first.key not in states(index)
    assert index.count() == 2


@pytest.mark.parametrize("known", [True, False])
def test_a_directory_that_is_deleted_meanwhile_is_passed_over(
    first: RunDir, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if known:
        refreshed(first.root)
    real: Callable[..., Any] = RunReader.read

    def read(self: RunReader, name: str, stamp: Any) -> Any:
        if name == first.key:
            shutil.rmtree(first.path)
        return real(self, name, stamp)

    monkeypatch.setattr(RunReader, "read", read)
    index = refreshed(first.root)
    assert index.broken() == []
    assert sorted(states(index).values()) == ["done", "done"]
    assert first.key not in states(index)


def test_foreign_files_are_counted_and_passed_over(first: RunDir) -> None:
    for number in range(10_000):
        (first.root / f"file{number}").touch()
    (first.root / "folder").mkdir()
    (first.root / ".hidden").mkdir()
    (first.root / "loop").symlink_to(first.root / "loop")
    os.mkdir(os.fsencode(first.root) + b"/not-utf8-\xff")
    index = refreshed(first.root)
    assert index.foreign == 10_003
    assert index.broken() == []
    assert index.count() == 3


def test_a_name_that_is_no_text_is_still_named(first: RunDir) -> None:
    shutil.copytree(os.fsencode(first.path), os.fsencode(first.path) + b"\xff")
    ((key, why),) = refreshed(first.root).broken()
    assert key == f"{first.key}\\udcff"
    assert "renamed" in why


def test_a_directory_that_may_not_be_read_is_named(
    first: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.stat

    def stat(path: Any, **how: Any) -> os.stat_result:
        if str(path) == str(first.result):
            raise PermissionError(13, "Permission denied")
        return real(path, **how)

    monkeypatch.setattr(records.os, "stat", stat)
    index = refreshed(first.root)
    assert index.broken() == [(first.key, f"{first.path} cannot be read: Permission denied")]
    monkeypatch.undo()
    assert refreshed(first.root).broken() == []


def test_a_runs_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot read the runs directory"):
        refreshed(tmp_path / "file")


def test_no_runs_directory_is_an_empty_one(tmp_path: Path) -> None:
    assert refreshed(tmp_path / "nothing").count() == 0


# -- the cache file -------------------------------------------------------------------------


def cache_file(cache: Path) -> Path:
    (path,) = (cache / "kd-benchmark").glob("*.sqlite")
    return path


def garbage(path: Path) -> None:
    path.write_bytes(b"no database at all" * 100)


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def holes(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))


def another_database(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("create table runs (key text, colour text)")
    database.close()


def of_other_code(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("update made_by set code = 'older'")
        database.execute("update runs set top1_last = 1.0")
    database.close()


@pytest.mark.parametrize("damage", [garbage, truncated, holes, another_database, of_other_code])
def test_a_damaged_index_is_made_anew(
    damage: Callable[[Path], None], first: RunDir, cache: Path, reads: list[str]
) -> None:
    expected = refreshed(first.root).all_runs()
    damage(cache_file(cache))
    assert refreshed(first.root).all_runs() == expected
    del reads[:]
    assert refreshed(first.root).all_runs() == expected
    assert reads == []  # the index works again


def test_without_a_place_for_a_cache_everything_is_read(
    first: RunDir, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = refreshed(first.root).all_runs()
    (cache / "file").touch()
    for place in (str(cache / "file"), "~nobody/.cache"):
        monkeypatch.setenv("XDG_CACHE_HOME", place)
        assert refreshed(first.root).all_runs() == expected


def test_an_index_that_another_process_holds_is_not_waited_for_forever(
    first: RunDir, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = refreshed(first.root).all_runs()
    monkeypatch.setattr(index_module, "_LOCK_SECONDS", 0.01)
    with sqlite3.connect(cache_file(cache)) as other:
        other.execute("begin exclusive")
        assert refreshed(first.root).all_runs() == expected
    other.close()
    assert cache_file(cache).exists()


def test_an_index_that_may_not_be_written_is_read_beside(
    first: RunDir, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refreshed(first.root)
    real = sqlite3.connect

    def read_only(path: str, **how: Any) -> sqlite3.Connection:
        if path == ":memory:":
            return real(path, **how)
        return real(f"file:{path}?mode=ro", uri=True, **how)

    monkeypatch.setattr(index_module.sqlite3, "connect", read_only)
    edit(first.result, val_top1=12.5)
    assert {run.val_top1 for run in refreshed(first.root).all_runs()} == {12.5, None}


def test_several_collectors_at_once_see_the_same(first: RunDir) -> None:
    write(first.root, plan(seeds="0-19", only=("column=resnet56-resnet20", "row=DKD")).runs)
    found: list[list[str]] = []

    def look() -> None:
        found.append([run.key for run in refreshed(first.root).all_runs()])

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert found[0] == found[1] == found[2] == found[3] == sorted(os.listdir(first.root))
