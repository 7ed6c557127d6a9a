"""What a result tells of costs: what training took, and what a prediction does."""

from __future__ import annotations

from typing import Any, NamedTuple

# What reading JSON of another form raises.
OTHER_FORM = (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError)

_LARGEST = 1e18  # of any number here; what is beyond it is damage


class Measured(NamedTuple):
    """What a finished run took: seconds an epoch, megabytes, how many shared its process.

    ``student`` is its share without the shared teacher's pass, ``teacher`` that pass, whoever
    shared it; None if the run itself did not. ``images`` of an epoch, about.
    """

    student: float
    teacher: float | None
    packed: int
    peak_mb: float | None
    images: float | None


class Prediction(NamedTuple):
    """What one prediction of a trained network does."""

    parameters: int
    multiply_adds: int


def measured_of(result: dict[str, Any]) -> Measured | None:
    """Return what estimates need, None if the result does not hold it."""
    try:
        epochs, shared = int(result["epochs"]), result["teacher_seconds"]
        student, peak = float(result["student_seconds"]), result.get("peak_memory_mb")
        told = (float(result["own_seconds"]), student, float(shared or 0.0), float(peak or 0.0))
        if epochs < 1 or not told[0] > 0 or not all(abs(value) <= _LARGEST for value in told):
            return None
        return Measured(
            student / epochs,
            None if shared is None else float(shared) / epochs,
            max(1, int(result["packed"])),
            None if peak is None else float(peak),
            _images(result, epochs),
        )
    except OTHER_FORM:
        return None


def prediction_of(result: dict[str, Any]) -> Prediction | None:
    """Return what a result tells of a prediction, None if it does not."""
    try:
        found = result["prediction"]
        numbers = int(found["parameters"]), int(found["multiply_adds"])
        return Prediction(*numbers) if all(0 <= n <= _LARGEST for n in numbers) else None
    except OTHER_FORM:
        return None


def _images(result: dict[str, Any], epochs: int) -> float | None:
    """Return about how many images an epoch had: its usual rate times its mean seconds."""
    rate, seconds = result.get("images_per_second"), result.get("seconds")
    if rate is None or seconds is None:
        return None
    found = float(rate) * float(seconds) / epochs
    return found if 0 < found <= _LARGEST else None
