"""The index sees what is on the disk, keeps up with it, and is never in the way."""

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

from benchmark.base.errors import UserError
from benchmark.run import identity, reading
from benchmark.run import index as index_module
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.run.index import RunIndex
from tests.results.filled import edit, plan, refreshed, states, write


def test_a_run_is_indexed_with_its_numbers(runs: list[Run], tmp_path: Path) -> None:
    index = refreshed(tmp_path / "runs")
    (found,) = [run for run in index.all_runs() if run.key == runs[0].key]
    assert (found.cell, found.seed, found.state) == (runs[0].cell_key, 0, "done")
    assert runs[0].teacher is not None
    assert found.teacher == runs[0].teacher.key
    assert found.value("top1", "last") == 70.0
    assert found.value("top1", "best") == 70.05
    assert found.value("top5", "last") == 91.0
    assert index.cells([reading.signature(runs[0])])[runs[0].cell_key][1] == runs[0].cell_identity


def nested(depth: int) -> Any:
    value: Any = 0.1
    for _ in range(depth):
        value = [value]
    return value


def test_cells_and_numbers_come_back_as_they_were(first: RunDir) -> None:
    data = json.loads(first.cell.read_text())
    odd = [0.1 + 0.2, 1, 1.0, True, None, 10**30, 5e-324, "\u00e9\U0001f600", nested(300)]
    data["methods"][0]["options"]["odd"] = odd
    of = identity.identity_of(data)
    rundir = RunDir(first.root, f"{identity.slug_of(of)}-s{data['seed']}-{identity.digest(of)}")
    rundir.path.mkdir()
    rundir.cell.write_text(json.dumps(data))
    result = json.loads(first.result.read_text()) | {"key": rundir.key, "own_seconds": 0.1 + 0.2}
    rundir.result.write_text(json.dumps(result))
    index = refreshed(first.root)
    expected = {key: reading.read(RunDir(first.root, key)) for key in os.listdir(first.root)}
    assert {run.key: run for run in index.all_runs()} == expected
    cell = index.all_cells()[expected[rundir.key].cell]
    assert repr(cell["methods"][0]["options"]["odd"]) == repr(odd)
    where = reading.signature_of(of)
    assert index.cells([where])[expected[rundir.key].cell] == (where, cell)
    # In whatever order, those of one signature alone.
    assert {r.key for r in index.runs([where])} == {
        key for key, run in expected.items() if run.cell in index.cells([where])
    }


# -- keeping up -----------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the directories that are read, with files settled as soon as written."""
    names: list[str] = []

    def read(rundir: RunDir, learn: Any) -> Any:
        names.append(rundir.key)
        return reading.read(rundir, learn)

    monkeypatch.setattr(index_module, "read", read)
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


def test_a_settled_run_costs_two_looks_at_files(
    first: RunDir, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refreshed(first.root)
    index, looks, real = RunIndex(first.root), [], os.stat

    def stat(path: Any, **how: Any) -> os.stat_result:
        looks.append(os.path.basename(path))
        return real(path, **how)

    monkeypatch.setattr(os, "stat", stat)
    index.refresh()
    monkeypatch.undo()
    assert sorted(looks) == ["cell.json"] * 3 + ["result.json"] * 3


@pytest.mark.parametrize("name", ["cell", "result"])
def test_a_file_that_another_replaced_is_read_again(
    first: RunDir, reads: list[str], name: str
) -> None:
    refreshed(first.root)
    path: Path = getattr(first, name)
    copy = path.with_name("copy")
    shutil.copy2(path, copy)  # the same bytes, length and modification time
    os.replace(copy, path)
    refreshed(first.root)
    assert reads[3:] == [first.key]


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
    assert len(states(index)) == 2


@pytest.mark.parametrize("known", [True, False])
def test_a_directory_that_is_deleted_meanwhile_is_passed_over(
    first: RunDir, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if known:
        refreshed(first.root)

    def read(rundir: RunDir, learn: Any) -> Any:
        if rundir.key == first.key:
            shutil.rmtree(first.path)
        return reading.read(rundir, learn)

    monkeypatch.setattr(index_module, "read", read)
    index = refreshed(first.root)
    assert index.damaged() == []
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
    assert index.damaged() == []
    assert len(states(index)) == 3


def test_a_runs_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot read the runs directory"):
        refreshed(tmp_path / "file")


def test_no_runs_directory_is_an_empty_one(tmp_path: Path) -> None:
    assert states(refreshed(tmp_path / "nothing")) == {}


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
        database.execute("update runs set reading = '{}'")
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


@pytest.mark.slow
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
