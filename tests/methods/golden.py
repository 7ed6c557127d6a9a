"""The reference losses and gradients (golden/golden_losses.npz), and how to compare with them.

A test module states which cases it checks in ``GOLDEN = ("case", ...)``, a literal;
test_golden_coverage.py holds that every case is claimed by one of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.fill import fill_value

PATH = Path(__file__).parents[1] / "golden" / "golden_losses.npz"
RTOL = {torch.float64: 1e-9, torch.float32: 1e-5}


@cache
def _file() -> Any:
    return np.load(PATH, allow_pickle=False)


@cache
def _by_prefix() -> dict[str, list[str]]:
    prefixes: dict[str, list[str]] = {}
    for name in _file().files:
        prefixes.setdefault(name.partition("/")[0], []).append(name)
    return prefixes


@cache
def meta() -> dict[str, dict[str, Any]]:
    """Return what the archive says of each case: note, source, loss, adapter parameters."""
    found: dict[str, dict[str, Any]] = json.loads(str(_file()["_meta_json"]))
    return found


def case_names() -> set[str]:
    """Return every case with an outcome to check (those without metadata too)."""
    return set(meta()) | {name.partition("/")[0] for name in _file().files if "/out/" in name}


def case(name: str) -> dict[str, Tensor]:
    """Return the arrays of one case without its name: ``in/z_s``, ``out/loss``, ``grad/z_s``.

    Fresh tensors at every call, float64 or int64, so that a test may write into them.
    """
    return {key.partition("/")[2]: torch.from_numpy(_file()[key]) for key in _by_prefix()[name]}


def common() -> dict[str, Tensor]:
    """Return the inputs that cases share: z_s, z_t, target, feat_s0, ..., pooled_t."""
    return case("common")


def inputs(name: str) -> dict[str, Tensor]:
    """Return the inputs of one case: the shared ones, replaced by its own where it has any."""
    own = {k.removeprefix("in/"): v for k, v in case(name).items() if k.startswith("in/")}
    return {**common(), **own}


def state(name: str, module: str) -> dict[str, Tensor]:
    """Return the state_dict of one adapter of a case; large tensors come from the formula.

    ``module`` as metadata names it ("conv_reg", "vid"); keys are without that prefix, in the
    reference's order, which need not be the order of our own module.
    """
    arrays = case(name)
    found = {}
    for k, (key, shape) in enumerate(meta()[name]["params"][module]):
        stored = arrays.get(f"param/{module}.{key}")
        if stored is None:  # the reference rounded its weights to float32
            stored = torch.from_numpy(fill_value(k, key, tuple(shape))).float().double()
        found[key] = stored
    return found


def assert_close(
    actual: Tensor, expected: Tensor, rtol: float | None = None, what: str = ""
) -> None:
    """Hold max|actual - expected| <= rtol * max|expected|; rtol by dtype where not given."""
    assert actual.shape == expected.shape, f"{what}: {actual.shape} against {expected.shape}"
    bound = RTOL[actual.dtype] if rtol is None else rtol
    scale = expected.abs().max().item() or 1.0
    error = (actual.detach().double() - expected.double()).abs().max().item() / scale
    assert error <= bound, f"{what}: relative error {error:.2e} above {bound:.0e}"


def assert_loss(
    name: str,
    function: Callable[..., Tensor],
    wrt: tuple[str, ...] = ("z_s",),
    also: tuple[str, ...] = (),
    dtype: torch.dtype = torch.float64,
    rtol: float | None = None,
) -> None:
    """Hold that ``function(**inputs)`` and its gradients equal the case.

    It is called with the inputs named in ``wrt`` (with gradient) and in ``also`` (teacher
    side, labels).
    """
    arrays, given = case(name), inputs(name)
    arguments = {
        key: given[key].to(dtype) if given[key].is_floating_point() else given[key]
        for key in (*wrt, *also)
    }
    for key in wrt:
        arguments[key].requires_grad_()
    loss = function(**arguments)
    loss.backward()  # type: ignore[no-untyped-call]
    assert_close(loss.reshape(()), arrays["out/loss"].reshape(()), rtol, f"{name} loss")
    for key in wrt:
        gradient = arguments[key].grad
        assert gradient is not None, f"{name}: no gradient to {key}"
        assert_close(gradient, arrays[f"grad/{key}"], rtol, f"{name} gradient to {key}")


def assert_parameter_gradients(
    name: str,
    module: nn.Module,
    prefix: str,
    rtol: float | None = None,
    rename: Mapping[str, str] | None = None,
) -> None:
    """Hold that the gradients of ``module``'s parameters equal the case's.

    ``prefix``: the adapter's name in the reference; ``rename`` maps our parameter names to the
    reference's where they differ. Large ones are compared by sum, sum of squares, extremes
    and 16 strided values.
    """
    arrays = case(name)
    for own, parameter in module.named_parameters():
        key = f"{prefix}.{(rename or {}).get(own, own)}"
        gradient = parameter.grad
        assert gradient is not None, f"{name}: no gradient to {key}"
        if f"pgrad/{key}" in arrays:
            assert_close(gradient, arrays[f"pgrad/{key}"], rtol, f"{name} gradient to {key}")
            continue
        flat = gradient.double().flatten()
        stats = torch.stack([flat.sum(), flat.square().sum(), flat.min(), flat.max()])
        sample = flat[torch.arange(16) * (flat.numel() // 16)]
        bound = RTOL[gradient.dtype] if rtol is None else rtol
        what = f"{name} gradient to {key}"
        # A sum of signed values can cancel: its error is judged against the sum of magnitudes.
        difference = (stats[0] - arrays[f"pgrad_stats/{key}"][0]).abs()
        assert difference <= bound * flat.abs().sum(), f"{what}: sum differs"
        for i in range(1, 4):
            assert_close(stats[i], arrays[f"pgrad_stats/{key}"][i], bound, what)
        assert_close(sample, arrays[f"pgrad_sample/{key}"], bound, what)
