"""Errors name what is valid, and what was probably meant."""

from __future__ import annotations

import pytest

from benchmark.base.errors import nearest, unknown


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("kdd", "; did you mean 'kd'?"),
        ("FitNet", "; did you mean 'fitnet'?"),
        ("rkd", "; did you mean 'RKD'?"),
        ("something", ""),
    ],
)
def test_the_nearest_name_whatever_its_case(name: str, guess: str) -> None:
    assert nearest(name, ["kd", "fitnet", "RKD"]) == guess


def test_an_unknown_name() -> None:
    error = unknown("method", "KD", ["kd", "fitnet"], "table t")
    assert str(error) == "unknown method 'KD' in table t; did you mean 'kd'? (valid: fitnet, kd)"
    assert str(unknown("table", "x", [])) == "unknown table 'x' (valid: none)"
