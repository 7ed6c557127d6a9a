"""How figures look: plain, small, and readable in grey and by the colour-blind.

Colours are Okabe and Ito's (2008); wherever one says something, a shape, a dash or a word says
it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmark.results.found import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, SOFT, FAINT = "#1b1b1b", "#767676", "#d9d9d9"
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
COLOURS = (BLUE, RED, GREEN, "#CC79A7", ORANGE, "#56B4E9", "#5b4a00", INK)
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
SHAPES = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h", "p", "d")
# Verdict: colour, shape, filled.
VERDICTS: dict[Verdict | None, tuple[str, str, bool]] = {
    Verdict.REPRODUCED: (GREEN, "o", True),
    Verdict.ABOVE: (BLUE, "^", True),
    Verdict.BELOW: (RED, "v", True),
    Verdict.CONDITIONAL: (ORANGE, "D", False),
    Verdict.UNDERPOWERED: (SOFT, "o", False),
    Verdict.DIVERGED: (RED, "X", True),
    Verdict.NOT_COMPARABLE: (SOFT, "s", False),
    Verdict.EXPECTED_MISS: (SOFT, "<", True),
    Verdict.UNEXPECTED_HIT: (GREEN, "P", True),
    Verdict.NOT_PUBLISHED: (INK, "o", True),
    None: (INK, "o", True),
}
DOTS_PER_INCH = 160
_SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "text.color": INK,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelsize": 8,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "legend.handlelength": 2.2,
    "figure.titlesize": 9.5,
    "figure.titleweight": "bold",
    "pdf.fonttype": 42,
    "svg.hashsalt": "benchmark",
    "savefig.facecolor": "white",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw and save with these settings alone, whatever the user's own are."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def look_of(number: int) -> dict[str, Any]:
    """Return colour and dash of the n-th line of an axes; dashes differ before colours repeat."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number % len(DASHES)]}


def heading(axes: Axes, text: str, beside: str = "") -> None:
    """Set a panel's title at the left, and a fact beside it at the right."""
    axes.set_title(text)
    if beside:
        axes.set_title(beside, loc="right", fontsize=7, fontweight="normal", color=SOFT)


def limits(values: Sequence[float], room: float = 0.06) -> tuple[float, float]:
    """Return axis limits around values, with some room."""
    low, high = min(values), max(values)
    pad = (high - low or max(abs(high), 1.0)) * room
    return low - pad, high + pad
