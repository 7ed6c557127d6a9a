"""The reference losses of the online, self and data-free families, found through BENCH_FIXTURES.

A test module states which cases it checks in ``GOLDEN_ONLINE = ("case", ...)``, a literal.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.conftest import fixtures_root
from tests.fill import fill_value
from tests.methods.golden import assert_close

RTOL = 1e-9


@cache
def _file() -> Any:
    root = fixtures_root()
    path = Path() if root is None else root / "golden-online" / "golden.npz"
    if root is None or not path.is_file():
        if os.environ.get("CI"):
            pytest.fail("BENCH_FIXTURES must point at the shared fixtures in CI")
        pytest.skip("BENCH_FIXTURES holds no golden-online/golden.npz")
    return np.load(path, allow_pickle=False)


@cache
def meta() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(str(_file()["_meta_json"]))
    return found


def case_names() -> set[str]:
    return {name.partition("/")[0] for name in _file().files if "/out/" in name}


def case(name: str) -> dict[str, Tensor]:
    """Return the arrays of one case without its name, as fresh tensors."""
    prefix = f"{name}/"
    return {
        key.removeprefix(prefix): torch.from_numpy(np.array(_file()[key]))
        for key in _file().files
        if key.startswith(prefix)
    }


def inputs(name: str) -> dict[str, Tensor]:
    """Return the inputs of a case: the shared ones, and its own (in/f1 as f1)."""
    common = {k: v for k, v in case("common").items()}
    return common | {k[3:]: v for k, v in case(name).items() if k.startswith("in/")}


def leaves(name: str) -> dict[str, Tensor]:
    """Return the inputs of a case, those that have a gradient in it as leaves that collect one."""
    graded = {key[5:] for key in case(name) if key.startswith("grad/")}
    found = inputs(name)
    for key in graded & found.keys():
        found[key].requires_grad_()
    return found


def assert_case(name: str, loss: Tensor, given: dict[str, Tensor]) -> None:
    """Hold that the loss and its gradients to ``given`` equal the case; zeros where none flows."""
    arrays = case(name)
    loss.backward()  # type: ignore[no-untyped-call]
    assert_close(loss.reshape(()), arrays["out/loss"].reshape(()), RTOL, f"{name} loss")
    for key, expected in arrays.items():
        kind, _, which = key.partition("/")
        if kind != "grad" or which not in given:
            continue
        gradient = given[which].grad
        gradient = torch.zeros_like(expected) if gradient is None else gradient
        if not expected.any():
            assert not gradient.any(), f"{name}: a gradient to {which}"
        assert_close(gradient, expected, RTOL, f"{name} gradient to {which}")


def fill(name: str, module: nn.Module, prefix: str, start: int = 0) -> None:
    """Fill a module of a case by the formula; keys and order are the case's own."""
    state = module.state_dict()
    listed = meta()[name]["params"][prefix]
    for k, (key, shape) in enumerate(listed, start=start):
        assert tuple(state[key].shape) == tuple(shape), key
        with torch.no_grad():
            state[key].copy_(torch.from_numpy(fill_value(k, key, tuple(shape))))


def assert_parameters(name: str, module: nn.Module, prefix: str) -> None:
    """Hold the gradients of a module's parameters against the case's."""
    arrays = case(name)
    for key, parameter in module.named_parameters():
        expected = arrays[f"pgrad/{prefix}.{key}"]
        gradient = torch.zeros_like(expected) if parameter.grad is None else parameter.grad
        if expected.abs().max() < 1e-14:  # a bias before a batch norm: rounding alone
            assert gradient.abs().max() < 1e-14, f"{name} gradient to {prefix}.{key}"
            continue
        assert_close(gradient, expected, RTOL, f"{name} gradient to {prefix}.{key}")
