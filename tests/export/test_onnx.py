"""Students as ONNX files: onnxruntime predicts what was recorded."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import benchmark
from benchmark.api.tables import Submitted
from benchmark.base.shipped import shipped
from benchmark.data.formats import read_layout, read_pixels
from benchmark.data.sidecar import split_path
from benchmark.run.directory import RunDir
from tests.cli.command import bench
from tests.results.conftest import cache as cache

ROWS = """
  - {name: SimKD, methods: [simkd]}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> tuple[Path, Submitted]:
    """An epoch of two methods with parts of their own, one of which predicts by them."""
    root = tmp_path_factory.mktemp("onnx")
    text = shipped("tables/digits.yaml").read_text().replace("name: digits", "name: mine", 1)
    (root / "mine.yaml").write_text(text + ROWS)
    done = benchmark.submit(
        root / "mine.yaml",
        cluster="inline",
        only=["column=wrn_16_2-resnet8", "row=SimKD", "row=DHKD"],
        seeds=[0],
        overrides={"recipe.epochs": 1, "recipe.lr": 0.01},
        runs=root / "runs",
        data=digits,
    )
    return root, done


@pytest.mark.slow
def test_onnxruntime_predicts_what_was_recorded(
    trained: tuple[Path, Submitted], digits: Path
) -> None:
    import onnxruntime

    root, done = trained
    only = ("--only", "row=SimKD", "--only", "row=DHKD")
    words = ("--table", root / "mine.yaml", "--runs", root / "runs", "--onnx", root / "out")
    ended = bench("export", *words, *only)
    assert ended.code == 0, ended.err
    layout = read_layout(split_path("digits", digits, "test"))
    names = set()
    for run in done.plan.runs:
        if not run.methods:
            continue
        names.add(run.methods[0].name)
        session = onnxruntime.InferenceSession(root / "out" / f"{run.key}.onnx")
        about = json.loads(session.get_modelmeta().custom_metadata_map["about"])
        assert (about["run"], about["network"], len(about["classes"])) == (run.key, run.model, 10)
        student = benchmark.load_student(run.key, runs=root / "runs")
        images = torch.stack([student.transform(pixels) for pixels in read_pixels(layout)])
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        ours = student(images).numpy()
        assert abs(logits - ours).max() <= 1e-5 * max(1.0, abs(ours).max())
        hits = int((logits.argmax(1) == layout.labels).sum())
        recorded = RunDir(root / "runs", run.key).read_result()["metrics"]["top1"]["last"]
        assert 100 * hits / len(images) == pytest.approx(recorded, abs=1e-9)
        content = (root / "out" / f"{run.key}.onnx").read_bytes()
        assert b".py" not in content  # nobody's paths
    assert names == {"simkd", "dhkd"}


@pytest.mark.slow
def test_a_network_that_computes_something_else_is_not_written(
    trained: tuple[Path, Submitted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    class Off(onnxruntime.InferenceSession):
        """Computes logits that are a little off."""

        def run(self, *given: object) -> list[np.ndarray]:
            return [logits + 1e-3 for logits in super().run(*given)]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Off)
    root, _ = trained
    words = ("--table", root / "mine.yaml", "--only", "row=DHKD", "--runs", root / "runs")
    ended = bench("export", *words, "--onnx", tmp_path / "out")
    assert ended.code == 1
    assert "onnxruntime computes other logits for digits-wrn_16_2-resnet8-dhkd" in ended.err
    assert "written: 0 networks" in ended.out
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = bench("export", "no-run", "--runs", tmp_path, "--onnx", tmp_path / "x")
    assert ended.code == 2
    assert "there is no run 'no-run'" in ended.err
    ended = bench("export", "no-run", "--table", "digits", "--onnx", tmp_path / "x")
    assert ended.code == 2
    assert "say what to export" in ended.err
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    ended = bench("export", "--table", "digits", "--onnx", tmp_path / "x")
    assert ended.code == 2
    assert "pip install 'kd-benchmark[onnx]'" in ended.err
