"""What bfloat16 costs if it does not pay, said before anything starts. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

from benchmark.planning.rates import bf16_gain
from benchmark.run.identity import Run

_SLOWER = 0.97  # nearer to 1 is noise


def precision_note(runs: Iterable[Run]) -> str | None:
    """Say if runs are to be trained in bfloat16 on a CPU that is slower in it; else None."""
    asked = sum(
        run.recipe.device == "cpu" and run.recipe.settings(run.model)[0] == "bf16" for run in runs
    )
    gain = bf16_gain() if asked else None
    if gain is None or gain >= _SLOWER:
        return None
    return (
        f"WARNING: bfloat16 takes {1 / gain:.1f} times as long as float32 on this CPU"
        " (bench doctor measures it); --set recipe.precision=fp32 is faster, with runs of its own"
    )
