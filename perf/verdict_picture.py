"""The picture of docs/verdicts.md: a simulated table as a forest plot and as a QQ plot.

    python -m perf.verdict_picture docs/verdicts.png

The layout is the CIFAR-100 table's, five seeds, exactly right but for one row (CRD, 0.5 points low)
and a source that prints the best epoch without saying so, read as last.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from scipy import special

from benchmark.results.evidence import weigh
from benchmark.table.load import load_table
from perf.verdict_worlds import GAIN, Layout, World, layout, simulate, to_cells

WORDS = {"reproduced": "tab:green", "below": "tab:red", "conditional": "tab:purple", "open": "0.5"}
LOW, BEST = "CRD", "ReviewKD"


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description="The picture of docs/verdicts.md.")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    where, rows = layout(), [row.name for row in load_table("cifar100").rows]
    rng = np.random.default_rng(4)
    off = np.where(where.row == rows.index(LOW), -0.5, 0.0)
    last, best, theirs = simulate(where, World(), 5, 1, rng, off)
    theirs["value"] = theirs["value"] + np.where(where.row == rows.index(BEST), GAIN, 0.0)
    cells = to_cells(where, last[0], best[0], {k: v[0] for k, v in theirs.items()}, World(), 5)
    shown = weigh(cells)
    first = shown.answers.readings.argmax(axis=-1)
    every = np.arange(len(first))
    delta, error, low, high = (
        f[every, first, 1]
        for f in (shown.tested.delta, shown.tested.error, shown.tested.low, shown.tested.high)
    )
    word = np.where(
        shown.reproduced,
        "reproduced",
        np.where(shown.miss < 0, "below", np.where(shown.conditional, "conditional", "open")),
    )
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 5), width_ratios=(1.25, 1))
    _forest(left, where, rows, delta, low, high, word)
    _quantiles(right, where, rows, last[0].mean(axis=-1) - theirs["value"][0], error)
    figure.tight_layout()
    figure.savefig(arguments.out, dpi=90, metadata={"Software": None})


def _forest(
    axes: Axes,
    where: Layout,
    rows: list[str],
    delta: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    word: np.ndarray,
) -> None:
    axes.axvspan(-where.margin, where.margin, color="tab:green", alpha=0.12, lw=0)
    axes.axvline(0, color="0.6", lw=0.8)
    names = ["KD", "CRD", "ReviewKD"]
    place, ticks = 0, []
    for name in names:
        mine = np.flatnonzero(where.row == rows.index(name))
        ticks.append((place + (len(mine) - 1) / 2, name))
        for i in mine:
            axes.plot([low[i], high[i]], [place, place], color=WORDS[word[i]], lw=1.4)
            axes.plot(delta[i], place, "o", color=WORDS[word[i]], ms=3.5)
            place += 1
        place += 1
    for label, color in WORDS.items():
        axes.plot([], [], "o-", color=color, label=label, ms=3.5)
    axes.set_yticks([t for t, _ in ticks], [name for _, name in ticks])
    axes.invert_yaxis()
    axes.set_xlabel("ours - published, points; shaded: the margin")
    axes.set_title("each cell with its interval", fontsize=10)
    axes.legend(fontsize=8, loc="upper left")


def _quantiles(
    axes: Axes, where: Layout, rows: list[str], delta: np.ndarray, error: np.ndarray
) -> None:
    for name, color in (("KD", "tab:blue"), (LOW, "tab:red"), (BEST, "tab:purple")):
        mine = where.row == rows.index(name)
        z = np.sort(delta[mine] / error[mine])
        at = special.ndtri((np.arange(len(z)) + 0.5) / len(z))
        axes.plot(at, z, "o", color=color, ms=4, label=name)
    line = np.array([-2.0, 2.0])
    axes.plot(line, line, color="0.6", lw=0.8)
    axes.set_xlabel("normal quantile")
    axes.set_ylabel("(ours by last - published) / its error")
    axes.set_title("slope: spread; offset: off, or another epoch", fontsize=10)
    axes.legend(fontsize=8)


if __name__ == "__main__":
    main()
