"""When what runs and what waits would be done."""

from __future__ import annotations

import pytest

from benchmark.monitor.forecast import Forecast, Left, forecast


@pytest.mark.parametrize(
    ("running", "waiting", "costs", "tasks", "expected"),
    [
        ([], 0, [], 0, Forecast(0.0, None)),
        ([Left(None, None)], 3, [], 1, Forecast(None, None)),
        # One run of 100 s more and two whole ones of 200 s, one at a time.
        ([Left(100, 100)], 2, [200, 200], 1, Forecast(500 / 3600, 500)),
        # Two at a time; but the one that runs takes 400 s by itself.
        ([Left(100, 400)], 2, [200], 2, Forecast(500 / 3600, 400)),
        ([], 2, [200], 0, Forecast(400 / 3600, None)),
    ],
)
def test_forecasts(
    running: list[Left], waiting: int, costs: list[float], tasks: int, expected: Forecast
) -> None:
    assert forecast(running, waiting, costs, tasks) == expected
