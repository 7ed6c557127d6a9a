"""Small charts as SVG that stands in a page: it scales, prints, and follows light and dark.

Colours, dashes and fonts are the style sheet's; numbers alone are decided here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from markupsafe import Markup, escape

WIDTH, HEIGHT = 520, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 34
_CHARACTER = 7  # the widest digit of a tick's 12 pixels
_MOST_POINTS = 240


class Line(NamedTuple):
    """One line of a chart: its name, and (x, y) in order of x."""

    name: str
    points: Sequence[tuple[float, float]]


class Level(NamedTuple):
    """A horizontal line: its name and where it stands."""

    name: str
    value: float


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    unit: str = "",
    levels: Sequence[Level] = (),
    drops: Sequence[float] = (),
    zoom: float | None = None,
    logarithmic: bool = False,
) -> Markup:
    """Return a figure with a chart over epochs, its legend and its words; empty without points.

    ``drops`` are vertical lines; ``zoom`` leaves out what lies below that value; a logarithmic
    axis is taken where all values are positive. A line with nothing to draw is not named.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return Markup("")
    ys = [y for line in lines for _, y in line.points]
    xs = [x for line in lines for x, _ in line.points]
    logarithmic = logarithmic and min(ys) > 0
    bottom, top = min(ys), max([*ys, *(level.value for level in levels)])
    if zoom is not None:
        bottom = max(bottom, min(zoom, top))
    lines = [line for line in lines if any(y >= bottom for _, y in line.points)]
    scale = _Scale(min(xs), max(xs), bottom, top, logarithmic)
    # Numbers need no escaping, and a report has a million of them; words are escaped below.
    parts = [_grid(scale.left, scale.right, scale.low, scale.high, logarithmic)]
    parts += [
        f'<line class="drop" x1="{(place := scale.x(x))}" x2="{place}"'
        f' y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'
        for x in drops
        if scale.left <= x <= scale.right
    ]
    parts += [_across("level", scale.margin, scale.y(level.value)) for level in levels]
    parts += [
        f'<polyline class="s{number % 8}" points="{scale.path(_thinned(line.points))}"/>'
        for number, line in enumerate(lines)
    ]
    words = f"{title}. " + "; ".join(
        f"{line.name} from {_short(line.points[0][1])} to {_short(line.points[-1][1])}{unit}"
        for line in lines
    )
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(words)}">'
    head = f'<figure class="chart"><figcaption>{escape(title)}</figcaption>{svg}'
    foot = f"</svg>{_legend(lines, levels, bool(drops))}</figure>"
    return Markup(head + "".join(parts) + foot)


class _Scale:
    """From numbers to places in the picture."""

    def __init__(
        self,
        left: float,
        right: float,
        bottom: float,
        top: float,
        logarithmic: bool,
        exact: bool = False,
    ) -> None:
        """``exact``: bottom and top are the picture's edges, logarithms already."""
        self.left, self.right = left, right if right > left else left + 1
        self._log = logarithmic
        self.low, self.high = bottom, top
        if not exact:
            low, high = self._of(bottom), self._of(top)
            pad = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
            self.low, self.high = low - pad, high + pad
        longest = max((len(_short(tick)) for tick in self.ticks()), default=0)
        self.margin = max(_LEFT, 12 + _CHARACTER * longest)

    def _of(self, y: float) -> float:
        return math.log10(y) if self._log else y

    def x(self, value: float) -> float:
        """Return where an epoch stands."""
        wide = WIDTH - self.margin - _RIGHT
        return round(self.margin + wide * (value - self.left) / (self.right - self.left), 1)

    def y(self, value: float) -> float:
        """Return where a value stands."""
        tall = HEIGHT - _TOP - _BOTTOM
        return round(_TOP + tall * (self.high - self._of(value)) / (self.high - self.low), 1)

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        """Return a line's places; written out, since a report has a million of them."""
        wide = (WIDTH - self.margin - _RIGHT) / (self.right - self.left)
        tall = (HEIGHT - _TOP - _BOTTOM) / (self.high - self.low)
        start, top, low = self.margin - wide * self.left, _TOP + tall * self.high, self.low
        if self._log:
            points = [(x, math.log10(y)) for x, y in points if y > 0]
        return " ".join(
            [f"{start + wide * x:.1f},{top - tall * y:.1f}" for x, y in points if y >= low]
        )

    def ticks(self) -> list[float]:
        """Return round values for the vertical axis."""
        found = nice(self.low, self.high, 4)
        if not self._log:
            return found
        whole = [10.0**n for n in range(math.ceil(self.low), math.floor(self.high) + 1)]
        return whole if len(whole) > 1 else [10.0**v for v in found]


def nice(low: float, high: float, about: int) -> list[float]:
    """Return about so many round numbers between two."""
    step = 10.0 ** math.floor(math.log10((high - low) / about))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (m * step) <= about)
    first = math.ceil(low / step)
    return [n * step for n in range(first, math.floor(high / step) + 1)]


def _across(kind: str, left: float, y: float) -> str:
    return f'<line class="{kind}" x1="{left}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'


@lru_cache(maxsize=1024)
def _grid(left: float, right: float, low: float, high: float, logarithmic: bool) -> str:
    """Return the lines and numbers behind a chart; many charts of a report have the same."""
    scale = _Scale(left, right, low, high, logarithmic, exact=True)
    parts = []
    for value in scale.ticks():
        y = scale.y(value)
        parts.append(_across("grid", scale.margin, y))
        parts.append(_tick(scale.margin - 6, y + 4, "end", _short(value)))
    for value in nice(scale.left, scale.right, 6):
        if value == int(value):
            place = scale.x(value), HEIGHT - _BOTTOM + 15
            parts.append(_tick(*place, "middle", str(int(value))))
    parts.append(_tick(WIDTH - _RIGHT, HEIGHT - 4, "end", "epoch"))
    return "".join(parts)


def _tick(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text class="tick" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>'


def _legend(lines: Sequence[Line], levels: Sequence[Level], drops: bool) -> str:
    """Return what the lines are; a lone line without any other needs none."""
    entries = [(f"s{n % 8}", line.name) for n, line in enumerate(lines)]
    entries += [("level", f"{level.name} {_short(level.value)}") for level in levels]
    entries += [("drop", "drop of the learning rate")] if drops else []
    items = "".join(
        '<li><svg class="swatch" viewBox="0 0 28 8" aria-hidden="true">'
        f'<line class="{kind}" x1="1" x2="27" y1="4" y2="4"/></svg>{escape(name)}</li>'
        for kind, name in entries
    )
    return f'<ul class="legend">{items}</ul>'


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most so many points as can be told apart, the last one among them."""
    step = max(1, math.ceil(len(points) / _MOST_POINTS))
    return [*points[::step], *(points[-1:] if (len(points) - 1) % step else ())]


def _short(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) < 0.001 or abs(value) >= 100_000:
        return f"{value:.0e}"
    return f"{value:.4g}"


class IntervalChart(NamedTuple):
    """A difference with its interval as a line in a cell of a table, all to one scale."""

    reach: float
    margin: float | None

    def draw(self, delta: float, low: float | None, high: float | None, kind: str) -> Markup:
        """Return the picture; its numbers stand beside it, so that it is for the eye alone."""
        shade = Markup("")
        if self.margin is not None:
            left, right = self._x(-self.margin), self._x(self.margin)
            shade = Markup('<rect class="margin" x="{}" y="0" width="{}" height="16"/>').format(
                left, round(right - left, 1)
            )
        line = Markup("")
        if low is not None and high is not None:
            line = Markup('<line class="{}" x1="{}" x2="{}" y1="8" y2="8"/>').format(
                kind, self._x(low), self._x(high)
            )
        return Markup(
            '<svg class="interval" viewBox="0 0 130 16" aria-hidden="true">{}'
            '<line class="zero" x1="65" x2="65" y1="0" y2="16"/>{}'
            '<circle class="{}" cx="{}" cy="8" r="3.2"/></svg>'
        ).format(shade, line, kind, self._x(delta))

    def _x(self, value: float) -> float:
        part = max(-1.0, min(1.0, value / self.reach))
        return round(65 + 61 * part, 1)


def plain(text: str) -> Markup:
    """Return text escaped, with a break after each hyphen and plus for long names."""
    return Markup("<wbr>").join(escape(part) for part in text.replace("-", "-\0").split("\0"))
