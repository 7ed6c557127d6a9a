"""A run's result: every protocol's accuracy, and where it comes from. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.run.identity import SCHEMA, Run
from benchmark.train.history import LAST, Evaluation


def summarise(
    run: Run,
    history: Sequence[Evaluation],
    diverged_at: int | None,
    records: Sequence[dict[str, Any]],
    starts: Sequence[dict[str, Any]],
    extra: dict[str, Any],
    shares_teacher: bool = False,
) -> dict[str, Any]:
    """Return the content of result.json.

    ``history``: the evaluated epochs; ``records``: all epochs as recorded; ``starts``: one
    provenance entry for every start of the run. A diverged run has no accuracies.

    ``seconds`` are those of the packs it was in; ``student_seconds`` its own part of them but for
    the shared teacher's pass; ``teacher_seconds`` that pass, whoever else shared it, null where
    the run itself does not (``shares_teacher``); ``own_seconds`` its part with its share of it.
    """
    seconds = sum(record.get("seconds", 0.0) for record in records)
    student = sum(record.get("student_seconds", 0.0) for record in records)
    teacher = sum(record.get("teacher_seconds", 0.0) for record in records)
    shared = sum(r.get("teacher_seconds", 0.0) / max(1, r.get("packed", 1)) for r in records)
    return {
        "schema": SCHEMA,
        "key": run.key,
        "cell": run.cell_key,
        "seed": run.seed,
        "diverged": diverged_at is not None,
        "diverged_at": diverged_at,
        "epochs": history[-1].epoch if history else len(records),
        "metrics": {} if diverged_at is not None else _metrics(history),
        "val_top1": _validation(history),
        **_averages(records),
        "seconds": round(seconds, 3),
        "own_seconds": round(student + shared, 3),
        "student_seconds": round(student, 3),
        "teacher_seconds": round(teacher, 3) if shares_teacher else None,
        "packed": max((record.get("packed", 1) for record in records), default=1),
        "images_per_second": _median([r.get("images_per_second") for r in records]),
        "peak_memory_mb": max((r.get("peak_memory_mb", 0) for r in records), default=0) or None,
        "restarts": len(starts) - 1,
        "provenance": starts[-1] if starts else {},
        **extra,
    }


def from_records(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return those accuracies of a result that its recorded epochs decide, and how it ended.

    ``outputs`` holds the other evaluated outputs, without the mean of several.
    """
    diverged_at = next((r["epoch"] for r in records if r.get("diverged")), None)
    history = _history([r for r in records if r.get("test_top1") is not None])
    names = dict.fromkeys(name for r in records for name in r.get("outputs", {}))
    outputs = {
        name: _metrics(
            _history(
                [{**r["outputs"][name], "epoch": r["epoch"]} for r in records if "outputs" in r]
            )
        )
        for name in names
    }
    return {
        "diverged": diverged_at is not None,
        "diverged_at": diverged_at,
        "epochs": history[-1].epoch if history else len(records),
        "metrics": {} if diverged_at is not None else _metrics(history),
        "val_top1": _validation(history),
        **_averages(records),
        **({"outputs": outputs} if outputs else {}),
    }


def _history(records: Sequence[dict[str, Any]]) -> list[Evaluation]:
    return [
        Evaluation(r["epoch"], r["test_top1"], r["test_top5"], math.nan, _or_nan(r.get("val_top1")))
        for r in records
    ]


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _averages(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the last accuracies of the averaged weights, nothing if there are none."""
    measured = [record for record in records if "average_top1" in record]
    if not measured:
        return {}
    return {"average": {metric: measured[-1][f"average_{metric}"] for metric in ("top1", "top5")}}


def of_outputs(
    reported: str,
    others: Mapping[str, Sequence[Evaluation]],
    averaged: Mapping[str, Sequence[Evaluation]],
) -> dict[str, Any]:
    """Return which output ``metrics`` are of, and those of every other, named before training.

    ``mean`` is the mean of the ``averaged`` outputs' accuracies in each evaluation.
    """
    found = {name: _metrics(history) for name, history in others.items()}
    if averaged:
        found["mean"] = _metrics(
            [_mean(together) for together in zip(*averaged.values(), strict=True)]
        )
    return {"reported": reported} | ({"outputs": found} if found else {})


def _mean(together: Sequence[Evaluation]) -> Evaluation:
    epoch, *rest = (statistics.fmean(values) for values in zip(*together, strict=True))
    return Evaluation(round(epoch), *rest)


def _metrics(history: Sequence[Evaluation]) -> dict[str, dict[str, Any]]:
    if not history:
        return {}
    return {metric: _protocols(history, metric) for metric in ("top1", "top5")}


def _protocols(history: Sequence[Evaluation], metric: str) -> dict[str, Any]:
    """Return the accuracy by protocol; the last five are the last five evaluations."""
    values = [float(getattr(item, metric)) for item in history]
    last = values[-LAST:]
    best = max(range(len(values)), key=lambda i: values[i])
    return {
        "last": values[-1],
        "best": values[best],
        "best_epoch": history[best].epoch,
        "median_of_last_5": statistics.median(last),
        "mean_of_last_5": statistics.fmean(last),
        "last_5": last,
    }


def _validation(history: Sequence[Evaluation]) -> float | None:
    """The held-out accuracy after the last epoch, None without held-out images."""
    value = history[-1].val_top1 if history else None
    return None if value is None or value != value else value


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value]
    return statistics.median(known) if known else None
