"""What leaves for other tools is read back by their own readers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmark.export import wandb as offline
from benchmark.run.directory import RunDir
from tests.cli.command import bench
from tests.results.conftest import cache as cache
from tests.results.filled import plan, write

COLUMN = "column=wrn_16_2-resnet8"
EPOCHS = 60


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A run of KD, its teacher and a plain student of the digits table, made up."""
    only = ("row=KD", "row=Student", COLUMN)
    write(tmp_path / "runs", plan("digits", only, "0", device="cpu").runs, curve=True)
    return tmp_path / "runs"


@pytest.fixture
def asked(runs: Path) -> tuple[object, ...]:
    """Both students."""
    only = ("--only", "row=KD", "--only", "row=Student")
    return ("export", "--table", "digits", "--runs", runs, *only)


def records(runs: Path, methods: str) -> tuple[RunDir, list[dict[str, Any]]]:
    """The run of these methods, and its epochs."""
    (folder,) = runs.glob(f"digits-*resnet8{methods}-s0-*")
    rundir = RunDir(runs, folder.name)
    return rundir, rundir.read_records()


def test_tensorboard_reads_the_curves(
    runs: Path, asked: tuple[object, ...], tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    out = tmp_path / "tb"
    ended = bench(*asked, "--tensorboard", out)
    assert (ended.code, ended.err) == (0, "")
    assert f"2 runs for tensorboard --logdir {out}" in ended.out
    assert len(list(out.iterdir())) == 2
    rundir, epochs = records(runs, "-kd")
    read = EventAccumulator(str(out / rundir.key)).Reload()
    for tag, value in (
        ("accuracy/test_top1", lambda epoch: epoch["test_top1"]),
        ("accuracy/train_top1", lambda epoch: epoch["train_top1"]),
        ("loss/kd", lambda epoch: epoch["losses"]["kd"]),
        ("loss/test", lambda epoch: epoch["test_loss"]),
        ("lr", lambda epoch: epoch["lr"]),
    ):
        points = read.Scalars(tag)
        assert [point.step for point in points] == list(range(1, EPOCHS + 1))
        assert [point.value for point in points] == pytest.approx([value(e) for e in epochs])
        assert points[1].wall_time - points[0].wall_time == pytest.approx(epochs[1]["seconds"])
    (last,) = read.Scalars("result/top1_last")
    assert last.value == pytest.approx(rundir.read_result()["metrics"]["top1"]["last"])
    content = read.summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
    told = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert told.group_name == rundir.key
    assert told.hparams["kd.temperature"].number_value == 4.0
    assert told.hparams["row"].string_value == "KD"


def test_an_export_takes_the_place_of_an_earlier_one(
    asked: tuple[object, ...], tmp_path: Path
) -> None:
    found = []
    for _ in range(2):
        assert bench(*asked, "--tensorboard", tmp_path).code == 0
        found.append({path: path.read_bytes() for path in tmp_path.rglob("events*")})
    assert found[0] == found[1]
    assert len(found[0]) == 2


def test_parquet_has_a_line_a_run_and_epoch(
    runs: Path, asked: tuple[object, ...], tmp_path: Path
) -> None:
    assert bench(*asked, "--parquet", tmp_path / "new" / "epochs.parquet").code == 0
    frame = pd.read_parquet(tmp_path / "new" / "epochs.parquet")
    assert len(frame) == 2 * EPOCHS
    rundir, epochs = records(runs, "-kd")
    kd = frame[frame["run"] == rundir.key]
    assert list(kd["epoch"]) == list(range(1, EPOCHS + 1))
    assert list(kd["loss/kd"]) == [epoch["losses"]["kd"] for epoch in epochs]
    assert set(kd["kd.temperature"]) == {4.0}
    assert set(frame["row"]) == {"KD", "Student"}


def logged(path: Path) -> Iterator[bytes]:
    """Yield the records of a .wandb file: LevelDB's log format behind a head of seven bytes."""
    content, at, whole = path.read_bytes(), 7, b""
    assert content[:4] == b":W&B"
    while at < len(content):
        left = 32768 - at % 32768
        if left < 7:  # a block's end is padded
            at += left
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or its last part
            yield whole
            whole = b""


@pytest.mark.slow
def test_wandb_reads_offline_runs(
    runs: Path, asked: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")  # for runs of their own
    from wandb.proto.wandb_internal_pb2 import Record

    for _ in range(2):
        ended = bench(*asked, "--wandb-offline", tmp_path)
        assert (ended.code, ended.err) == (0, "")
    rundir, epochs = records(runs, "-kd")
    folders = list((tmp_path / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    (file,) = (tmp_path / "wandb").glob(f"offline-run-*/run-{offline.id_of(rundir.key)}.wandb")
    read = [Record.FromString(content) for content in logged(file)]
    (run,) = [record.run for record in read if record.WhichOneof("record_type") == "run"]
    assert (run.project, run.display_name) == ("digits", rundir.key)
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["kd.temperature"] == 4.0
    history = [
        {(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in h.item}
        for h in (r.history for r in read if r.WhichOneof("record_type") == "history")
    ]
    assert [line["epoch"] for line in history] == list(range(1, EPOCHS + 1))
    assert [line["test_top1"] for line in history] == [epoch["test_top1"] for epoch in epochs]
    assert not list(file.parent.rglob("wandb-metadata.json"))  # nothing of this machine


@pytest.mark.parametrize(
    ("form", "module", "extra"),
    [
        ("--tensorboard", "tensorboard.compat.proto.event_pb2", "tensorboard"),
        ("--wandb-offline", "wandb", "wandb"),
        ("--parquet", "pyarrow", "parquet"),
    ],
)
def test_a_library_that_is_not_there_is_named(
    form: str, module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    ended = bench("export", "--table", "digits", form, tmp_path / "out")
    assert ended.code == 2
    assert f"pip install 'kd-benchmark[{extra}]'" in ended.err
    assert len(ended.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_exported_is_one_line(
    runs: Path, asked: tuple[object, ...], tmp_path: Path
) -> None:
    ended = bench("export", "--table", "digits", "--runs", runs)
    assert ended.code == 2
    assert "say what to export" in ended.err
    ended = bench(
        "export", "--table", "digits", "--runs", tmp_path / "no", "--parquet", tmp_path / "x"
    )
    assert ended.code == 2
    assert "no runs of digits" in ended.err
    (tmp_path / "file").touch()
    ended = bench(*asked, "--tensorboard", tmp_path / "file")
    assert ended.code == 2
    assert f"cannot create {tmp_path}/file/" in ended.err


def test_records_that_cannot_be_read_are_left_out(
    runs: Path, asked: tuple[object, ...], tmp_path: Path
) -> None:
    rundir, _ = records(runs, "-kd")
    rundir.records.write_text("{\n\n")
    ended = bench(*asked, "--tensorboard", tmp_path / "tb")
    assert ended.code == 0
    assert f"{rundir.key} is left out" in ended.err
    assert len(list((tmp_path / "tb").iterdir())) == 1


@pytest.mark.parametrize(
    "key", ["digits-resnet8-s0-0123456789ab", "digits-dhkd+reviewkd-s0-0123456789ab", "x" * 150]
)
def test_names_for_wandb_are_short_and_plain(key: str) -> None:
    name = offline.id_of(key)
    assert len(name) <= 64
    assert not set(name) & set("/\\#?%:+")
