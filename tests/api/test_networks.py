"""Networks and frames of real runs: what was trained predicts what was recorded."""

from __future__ import annotations

import copy
import io
import json
import logging
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import benchmark
from benchmark.api.tables import Submitted
from benchmark.base.errors import UserError
from benchmark.base.shipped import shipped
from benchmark.base.torchvision_shim import make_torchvision_importable
from benchmark.data.datasets import dataset_info
from benchmark.data.formats import read_layout, read_pixels
from benchmark.data.sidecar import split_path
from benchmark.data.write_own import write_own
from benchmark.models import build_model
from benchmark.run.directory import RunDir
from benchmark.train.about import read_about
from benchmark.train.trained import TrainedStudent, Transform
from tests.cli.command import bench

ROWS = """
  - {name: SimKD, methods: [simkd]}
  - {name: CAT-KD, methods: [catkd]}
  - {name: FitNet + SimKD, methods: [fitnet, simkd], ce_weight: 1.0}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained") / "runs"


@pytest.fixture(scope="module")
def trained(runs: Path, digits: Path) -> Submitted:
    """One epoch of a baseline, a plain method, and those that predict in a way of their own."""
    text = shipped("tables/digits.yaml").read_text().replace("name: digits", "name: mine", 1)
    table = runs.parent / "mine.yaml"
    table.write_text(text + ROWS)
    return benchmark.submit(
        table,
        cluster="inline",
        only=["column=wrn_16_2-resnet8", "row!=AT", "row!=RKD", "row!=DKD", "row!=DHKD"],
        seeds=[0],
        overrides={"recipe.epochs": 1, "recipe.lr": 0.01},
        runs=runs,
        data=digits,
    )


def accuracy(student: TrainedStudent, data: Path) -> float:
    layout = read_layout(split_path("digits", data, "test"))
    images = torch.stack([student.transform(pixels) for pixels in read_pixels(layout)])
    hits = student(images).argmax(1) == torch.from_numpy(layout.labels)
    return 100 * int(hits.sum()) / len(hits)


def test_every_network_predicts_what_was_recorded(
    trained: Submitted, runs: Path, digits: Path
) -> None:
    assert set(trained.runs.values()) == {"done"}
    names = set()
    for run in trained.plan.runs:
        student = benchmark.load_student(run.key, runs=runs)
        recorded = RunDir(runs, run.key).read_result()["metrics"]["top1"]["last"]
        assert accuracy(student, digits) == pytest.approx(recorded, abs=1e-9), run.key
        assert not student.training
        assert not any(parameter.requires_grad for parameter in student.parameters())
        names.add("+".join(ref.name for ref in run.methods))
    assert {"", "kd", "simkd", "catkd", "fitnet+simkd"} <= names


def test_the_file_holds_the_network_alone_and_says_what_it_is(
    trained: Submitted, runs: Path
) -> None:
    for run in trained.plan.runs:
        rundir = RunDir(runs, run.key)
        network = build_model(run.model, 10)
        network.load_state_dict(load_file(rundir.weights), strict=True)
        about = read_about(rundir.weights)
        assert (about["run"], about["network"], about["dataset"]) == (run.key, run.model, "digits")
        assert about["methods"] == [method.name for method in run.methods]
        assert about["classes"] == [str(digit) for digit in range(10)]
        assert about["mean"] == list(dataset_info("digits").mean)
    with_parts = {r.key for r in trained.plan.runs if RunDir(runs, r.key).extras.exists()}
    assert 2 <= len(with_parts) < len(trained.plan.runs)


def test_a_prediction_is_not_the_classifiers_where_the_method_has_its_own(
    trained: Submitted, runs: Path
) -> None:
    (run,) = (r for r in trained.plan.runs if [m.name for m in r.methods] == ["simkd"])
    student = benchmark.load_student(runs / run.key)
    images = torch.rand(4, 3, 8, 8)
    assert not torch.allclose(student(images), student.model(images))
    copied = copy.deepcopy(student)
    assert torch.equal(copied(images), student(images))


def test_a_run_that_cannot_be_loaded_says_why(
    trained: Submitted, runs: Path, tmp_path: Path
) -> None:
    run = next(r for r in trained.plan.runs if [m.name for m in r.methods] == ["simkd"])
    with pytest.raises(UserError, match=r"there is no run .*did you mean 'digits-wrn"):
        benchmark.load_student(run.key[:-3], runs=runs)
    shutil.copytree(runs / run.key, tmp_path / run.key)
    weights = tmp_path / run.key / "student.safetensors"
    (tmp_path / run.key / "extras.safetensors").unlink()
    with pytest.raises(UserError, match=r"predicts by parts of simkd that it did not keep"):
        benchmark.load_student(run.key, runs=tmp_path)
    weights.write_bytes(b"no weights")
    with pytest.raises(UserError, match="cannot be read"):
        benchmark.load_student(run.key, runs=tmp_path)
    os.truncate(weights, 2**40)
    with pytest.raises(UserError, match="it is not a file of this project"):
        benchmark.load_student(run.key, runs=tmp_path)
    (tmp_path / run.key / "result.json").unlink()
    with pytest.raises(UserError, match="holds no trained network: the run is"):
        benchmark.load_student(run.key, runs=tmp_path)


def test_photographs_are_resized_and_cut_as_torchvision_does() -> None:
    transform = pickle.loads(pickle.dumps(Transform(dataset_info("imagenet"), 224)))
    pixels = np.random.default_rng(0).integers(0, 256, (301, 407, 3), np.uint8)
    make_torchvision_importable()
    from torchvision.transforms import v2

    usual = v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.PILToTensor()])
    for image in (Image.fromarray(pixels), Image.fromarray(pixels.transpose(1, 0, 2))):
        theirs = usual(image).float() / 255
        mean, std = (torch.tensor(v)[:, None, None] for v in (transform.mean, transform.std))
        torch.testing.assert_close(transform(image), (theirs - mean) / std, atol=1e-5, rtol=0)
    assert transform(Image.new("L", (50, 500))).shape == (3, 224, 224)


def test_frames_hold_every_run_and_every_epoch(trained: Submitted, runs: Path) -> None:
    frame = benchmark.to_frame(runs)
    assert sorted(frame["run"]) == sorted(trained.runs)
    for key, row in frame.set_index("run").iterrows():
        metrics = RunDir(runs, str(key)).read_result()["metrics"]
        assert row["top1_last"] == metrics["top1"]["last"]
        assert row["top5_best"] == metrics["top5"]["best"]
    epochs = benchmark.to_frame(runs, epochs=True)
    assert sorted(epochs["run"]) == sorted(trained.runs)
    assert (epochs["epoch"] == 1).all()
    assert epochs["loss.simkd"].notna().sum() == 2
    placed = benchmark.to_frame(runs, table=runs.parent / "mine.yaml")
    assert set(placed["row"]) >= {"SimKD", "KD"}
    assert placed["overrides"].str.contains("recipe.epochs").all()
    with pytest.raises(UserError, match="is no directory of runs"):
        benchmark.to_frame(runs / "nowhere")


def test_records_that_cannot_be_read_cost_their_run_alone(
    trained: Submitted, runs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(runs, tmp_path / "runs")
    first, *others = trained.runs
    (tmp_path / "runs" / first / "records.jsonl").write_text("{\n")
    with caplog.at_level(logging.WARNING, logger="benchmark"):
        epochs = benchmark.to_frame(tmp_path / "runs", epochs=True)
    assert sorted(epochs["run"]) == sorted(others)
    assert "records.jsonl cannot be read" in caplog.text


def test_the_command_writes_the_same_frames(trained: Submitted, runs: Path, tmp_path: Path) -> None:
    table = runs.parent / "mine.yaml"
    words = ("collect", "--table", table, "--runs", runs)
    placed = benchmark.to_frame(runs, table=table)
    epochs = benchmark.to_frame(runs, table=table, epochs=True)
    printed = bench(*words, "--format", "csv", "--runs-rows")
    assert printed.code == 0
    assert list(pd.read_csv(io.StringIO(printed.out))["run"]) == list(placed["run"])
    ended = bench(*words, "--format", "parquet", "--out", tmp_path)
    assert ended.code == 0, ended.err
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "mine.runs.parquet"), placed, check_dtype=False
    )
    read = pd.read_parquet(tmp_path / "mine.epochs.parquet")
    pd.testing.assert_frame_equal(read, epochs, check_dtype=False)
    assert bench(*words, "--format", "csv", "--runs-rows", "--out", tmp_path).code == 0
    assert list(pd.read_csv(tmp_path / "mine.epochs.csv")["run"]) == list(epochs["run"])


def test_formats_go_to_files_where_a_folder_is_named(
    trained: Submitted, runs: Path, tmp_path: Path
) -> None:
    words = ("collect", "--table", runs.parent / "mine.yaml", "--runs", runs, "--out", tmp_path)
    ended = bench(*words, "--format", "csv")
    assert f"written: {tmp_path}/mine.csv" in ended.out
    assert len(pd.read_csv(tmp_path / "mine.csv"))
    assert bench(*words, "--format", "tex").code == 0
    fragment = (tmp_path / "mine.tex").read_text()
    assert "\\documentclass" not in fragment
    assert "\\begin{table*}" in fragment
    assert bench(*words, "--format", "tex", "--standalone").code == 0
    assert (tmp_path / "mine.tex").read_text().startswith("\\documentclass")


def test_a_run_is_measured_again(
    trained: Submitted, runs: Path, digits: Path, tmp_path: Path
) -> None:
    run = trained.plan.runs[-1]
    words = ("evaluate", run.key, "--runs", runs)
    ended = bench(*words, "--data", digits, "--json")
    assert ended.code == 0
    told = json.loads(ended.out)
    recorded = RunDir(runs, run.key).read_result()["metrics"]["top1"]["last"]
    assert (told["top1"], told["recorded_top1"], told["agrees"]) == (recorded, recorded, True)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 8, 8), np.uint8)
    names = np.array(["7", "3", "1"])
    np.savez(tmp_path / "three.npz", images=images, labels=np.arange(30) % 3, classes=names)
    write_own("three", tmp_path / "three.npz", tmp_path, test_fraction=0.5)
    ended = bench(*words, "--data", tmp_path, "--dataset", "three", "--json")
    told = json.loads(ended.out)
    assert (told["images"], told["recorded_top1"], told["agrees"]) == (15, None, True)
    student = benchmark.load_student(run.key, runs=runs)
    layout = read_layout(split_path("three", tmp_path, "test"))
    pixels = torch.stack([student.transform(image) for image in read_pixels(layout)])
    hits = student(pixels).argmax(1) == torch.tensor([7, 3, 1])[torch.from_numpy(layout.labels)]
    assert told["top1"] == pytest.approx(100 * int(hits.sum()) / 15, abs=7)
    np.savez(tmp_path / "odd.npz", images=images, labels=np.arange(30) % 2, classes=["7", "cat"])
    write_own("odd", tmp_path / "odd.npz", tmp_path, test_fraction=0.5)
    refused = bench(*words, "--data", tmp_path, "--dataset", "odd")
    assert refused.code == 2
    assert "does not know the class 'cat' of odd" in refused.err


def test_parquet_without_pyarrow_says_what_to_install(
    trained: Submitted, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    ended = bench(
        "collect", "-t", runs.parent / "mine.yaml", "--runs", runs, "--format", "parquet",
        "--out", tmp_path,
    )  # fmt: skip
    assert ended.code == 2
    assert "pip install 'kd-benchmark[parquet]'" in ended.err


def test_a_method_is_built_for_a_loop_of_ones_own() -> None:
    fitnet = benchmark.load_method("fitnet")
    assert json.dumps(fitnet.defaults)
    networks = build_model("resnet8", 10), build_model("wrn_16_2", 10)
    method = fitnet.build(*networks, image_shape=(3, 8, 8), num_classes=10)
    assert list(method.parameters())
    assert networks[0].training
    with pytest.raises(UserError, match="unknown option of fitnet"):
        fitnet.build(*networks, image_shape=(3, 8, 8), num_classes=10, wieght=1)
    with pytest.raises(UserError, match="fitnet needs a teacher"):
        fitnet.build(networks[0], None, image_shape=(3, 8, 8), num_classes=10)
    with pytest.raises(UserError, match="did you mean 'fitnet'"):
        benchmark.load_method("fitnets")
