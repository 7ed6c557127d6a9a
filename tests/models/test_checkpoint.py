"""Public checkpoints load as they are; files that are anything else are refused in one line."""

from __future__ import annotations

import argparse
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmark.base.errors import UserError
from benchmark.models import build_model
from benchmark.models.checkpoint import load_into, load_state
from benchmark.train.state import CheckpointError, read
from tests.fill import fill_state

State = dict[str, Tensor]
FORMATS = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


@pytest.fixture
def state() -> State:
    network = build_model("resnet8", 100)
    fill_state(network)
    return network.state_dict()


def save(content: Any, path: Path, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def load(path: Path, name: str = "resnet8") -> nn.Module:
    network = build_model(name, 100)
    load_into(network, load_state(path), str(path))
    return network


def without_counters(state: State) -> State:
    return {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}


MOMENTA = {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}

WRAPPINGS: dict[str, Callable[[State], Any]] = {
    "as published": lambda s: {"model": s},
    "plain": lambda s: s,
    "under state_dict": lambda s: {"state_dict": s, "epoch": 240},
    "DataParallel": lambda s: {"model": {f"module.{k}": v for k, v in s.items()}},
    "before counters": lambda s: {"model": without_counters(s)},
    "parameters": lambda s: {
        "model": OrderedDict((k, nn.Parameter(v)) for k, v in without_counters(s).items())
    },
    "beside arguments": lambda s: {"model": s, "opt": argparse.Namespace(lr=0.05, tags=["a"])},
    "beside numpy": lambda s: {"best": np.float64(72.3), "n": np.int64(3), "model": s},
    "beside numpy's truth": lambda s: {"model": s, "is_best": np.bool_(True), "k": np.uint8(1)},
    "beside numpy's text": lambda s: {"model": s, "arch": np.str_("a"), "z": np.complex64(1)},
    "under net": lambda s: {"net": s, "acc": 95.1, "epoch": 200},
    "RepDistiller": lambda s: {"opt": argparse.Namespace(trial="1"), "model": s, "epoch": 240},
    "torchdistill": lambda s: {"model": s, "optimizer": MOMENTA, "best_value": 72.3, "args": None},
    "timm": lambda s: {"epoch": 1, "arch": "resnet8", "state_dict": s, "optimizer": MOMENTA},
    "timm, averaged alike": lambda s: {"state_dict": s, "state_dict_ema": dict(s), "version": 2},
    "Lightning": lambda s: {
        "state_dict": {f"model.{k}": v for k, v in s.items()},
        "pytorch-lightning_version": "2.5.0",
        "callbacks": {"ModelCheckpoint{}": {"best_model_score": torch.tensor(0.7), "dirpath": "a"}},
        "optimizer_states": [MOMENTA],
        "loops": {"fit_loop": {"state_dict": {}}},
    },
    "a negative bank beside it": lambda s: {"model": s, "contrast": {"memory_v1": torch.eye(3)}},
    "DeepSpeed": lambda s: {"module": s, "optimizer": MOMENTA, "global_steps": 3},
    "the tutorial's": lambda s: {"model_state_dict": s, "optimizer_state_dict": MOMENTA},
    "averaged alone": lambda s: {"ema": s, "epoch": 3},
    "averaged by torch": lambda s: {
        "model_ema": {"n_averaged": torch.tensor(3)} | {f"module.{k}": v for k, v in s.items()}
    },
    "one inside another": lambda s: {"checkpoint": {"state_dict": s, "epoch": 3}},
    "compiled": lambda s: {"model": {f"_orig_mod.{k}": v for k, v in s.items()}},
}


@FORMATS
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_public_forms_load(wrapping: str, legacy: bool, tmp_path: Path, state: State) -> None:
    network = load(save(WRAPPINGS[wrapping](state), tmp_path / "teacher.pth", legacy))
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_numpy_scalars_under_their_old_name(tmp_path: Path, state: State) -> None:
    path = save({"best": np.float64(1), "model": state}, tmp_path / "old.pth", legacy=True)
    raw = path.read_bytes()
    assert b"numpy._core.multiarray\n" in raw
    path.write_bytes(raw.replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n"))
    load(path)


def test_safetensors_load(tmp_path: Path, state: State) -> None:
    save_file(state, tmp_path / "student.safetensors")
    assert torch.equal(load(tmp_path / "student.safetensors").fc.bias, state["fc.bias"])


def test_a_double_network_keeps_its_precision(tmp_path: Path, state: State) -> None:
    network = build_model("resnet8", 100).double()
    load_into(network, state, "it")
    assert network.fc.weight.dtype == torch.float64
    assert torch.equal(network.fc.weight, state["fc.weight"].double())


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


@FORMATS
def test_pickled_code_is_not_run(legacy: bool, tmp_path: Path, state: State) -> None:
    target = tmp_path / "proof"
    for content in ({"model": state, "x": Malicious(target)}, Malicious(target)):
        path = save(content, tmp_path / "evil.pth", legacy)
        with pytest.raises(UserError, match=r"evil\.pth holds posix\.mkdir, which is no weight"):
            load_state(path)
    bare = tmp_path / "bare.pth"
    bare.write_bytes(pickle.dumps(Malicious(target)))
    with pytest.raises(UserError, match=r"bare\.pth"):
        load_state(bare)
    assert not target.exists()


@FORMATS
def test_damaged_files_are_refused_in_one_line(legacy: bool, tmp_path: Path, state: State) -> None:
    raw = save({"model": state}, tmp_path / "whole.pth", legacy).read_bytes()
    cut = tmp_path / "cut.pth"
    generator = random.Random(0)
    sizes = [0, 1, 10, len(raw) - 1, *(generator.randrange(len(raw)) for _ in range(30))]
    for size in sizes:
        cut.write_bytes(raw[:size])
        with pytest.raises(UserError, match=r"cut\.pth") as caught:
            load_state(cut)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300 + len(str(cut))


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"<!DOCTYPE html><title>404</title>" * 9, b"PK\x03\x04" + bytes(99)]
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_foreign_files(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"page.{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read: it is truncated, damaged or no check"):
        load_state(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_state(tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"epoch": 3}, "its entry 'epoch' is a int, not a tensor"),
        ({"model": {"a": [1.0]}}, "its entry 'a' is a list"),
        (
            {"a": torch.zeros(1), "epoch": 3},
            r"'epoch' is a int, not a tensor; keep .*v for k, v in state\.items\(\) if torch\.is_",
        ),
        (
            {"student": {"a": torch.zeros(1)}, "teacher": {"b": torch.zeros(1)}},
            r"under \['student'\], \['teacher'\], .*torch\.load\(FILE\)\['student'\]}, NEW_FILE",
        ),
        (
            {"model": {"student": {"a": torch.zeros(1)}, "teacher": {"a": torch.ones(1)}}},
            r"keep one of them: .*torch\.load\(FILE\)\['model'\]\['student'\]}, NEW_FILE",
        ),
        (
            {"model": {"a": torch.zeros(1)}, "model_ema": {"a": torch.ones(1)}, "epoch": 3},
            r"under \['model'\], \['model_ema'\], and nothing says which are meant; keep one",
        ),
        (
            {
                "state_dict": {"a": torch.zeros(1)},
                "state_dict_ema": {"module.a": torch.ones(1), "n_averaged": torch.tensor(1)},
            },
            r"under \['state_dict'\], \['state_dict_ema'\], and nothing says which are meant",
        ),
        ([1, 2], "holds no state_dict"),
        ({"model": {}}, "holds no state_dict"),
        ({"model": {"a": torch.eye(2).to_sparse()}}, "'a' is not a plain dense tensor"),
    ],
)
def test_files_without_weights(content: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        load_state(save(content, tmp_path / "odd.pth"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s | {"fc.weight": torch.zeros(10, 64)}, "is for 10 classes, the model for 100"),
        (lambda s: s | {"fc.weight": torch.zeros(100, 32)}, r"fc.weight has shape \[100, 32\]"),
        (lambda s: s | {"bn1.bias": torch.zeros(8)}, r"bn1.bias has shape \[8\], not \[16\]"),
        (lambda s: s | {"fc.bias": torch.full((100,), torch.nan)}, "fc.bias holds values that"),
        (lambda s: s | {"fc.bias": torch.zeros(100, dtype=torch.int64)}, "fc.bias is torch.int64"),
        (lambda s: s | {"extra.weight": torch.zeros(1)}, "holds unknown extra.weight"),
        (
            lambda s: {k: v for k, v in s.items() if "layer3" not in k},
            "lacks layer3.0.* and 12 more",
        ),
        # One number, claimed to be 10^13: nothing of that size may be allocated.
        (lambda s: s | {"bn1.bias": torch.zeros(1).expand(10**13)}, "bn1.bias has shape"),
    ],
)
def test_weights_that_do_not_fit(
    change: Callable[[State], State], said: str, tmp_path: Path, state: State
) -> None:
    network = build_model("resnet8", 100)
    before = nn.utils.parameters_to_vector(network.parameters())
    path = save({"model": change(state)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=f"other.pth.*{said}"):
        load_into(network, load_state(path), str(path))
    assert torch.equal(nn.utils.parameters_to_vector(network.parameters()), before)


def test_an_archive_larger_inside_than_outside_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pth"
    torch.save({"model": {"weight": torch.zeros(300_000)}}, path)
    load_state(path)
    with zipfile.ZipFile(path) as plain:
        contents = {entry.filename: plain.read(entry) for entry in plain.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in contents.items():
            packed.writestr(name, content)
    with pytest.raises(UserError, match=r"it is compressed, 1,2\d\d,\d+ bytes in ") as error:
        load_state(path)
    assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match="it is compressed"):
        read(path)
