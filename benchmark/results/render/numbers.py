"""How numbers, metrics and statistics are printed."""

from __future__ import annotations

METRIC_LABELS = {"top1": "top-1", "top5": "top-5"}


def metric_label(metric: str) -> str:
    """Return a metric as printed."""
    return METRIC_LABELS.get(metric, metric)


def statistic_label(statistic: str) -> str:
    """Return a statistic as printed."""
    return statistic.replace("_", " ")


def fixed(value: float, decimals: int, *, sign: bool = False) -> str:
    """Return a number with fixed decimals, never a negative zero."""
    rounded = round(value, decimals) + 0.0
    return f"{rounded:+.{decimals}f}" if sign else f"{rounded:.{decimals}f}"


def tidy(value: float | None) -> float | None:
    """Return a number without the digits that floating point makes up: ten significant ones."""
    return None if value is None else float(f"{value:.10g}")
