"""Compiled functions keep their rounding in callers of other rules."""

from __future__ import annotations

from types import ModuleType

import numba
import pytest
from numba.core.dispatcher import Dispatcher

from benchmark.data import erasing, jpeg, randaugment_ops, resample
from benchmark.data.compiled import exact


@exact
def stretched(value: int, low: int, scale: float) -> int:
    return int(value * scale + -low * scale)


@numba.njit(fastmath=True, error_model="numpy")
def as_ffcv_calls(value: int, low: int, scale: float) -> int:
    return stretched(value, low, scale)


def test_fast_callers_change_no_rounding() -> None:
    for low in range(40):
        scale = 255.0 / (211 - low)
        for value in range(low, 212):
            expected = int(value * scale + -low * scale)
            assert as_ffcv_calls(value, low, scale) == expected, (value, low)


@pytest.mark.parametrize("module", [erasing, jpeg, randaugment_ops, resample])
def test_all_functions_are_compiled_so(module: ModuleType) -> None:
    functions = [f for f in vars(module).values() if isinstance(f, Dispatcher)]
    assert functions
    for function in functions:
        assert function.targetoptions["fastmath"] is False
        assert function.targetoptions["error_model"] == "python"
