"""Attention maps, as attention transfer forms them: where each network looks, image by image.

The mean of squares over channels, of unit length, of the deepest stage that is at least four
positions wide (figure 2 of the thesis). Dark is little, bright is much, each map to its own scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from matplotlib.figure import Figure

from benchmark.figures.drawing import Drawing, FigureSource, column_title, file_name, title_of
from benchmark.figures.networks import MAPS, LookedAt, LookedColumn, columns
from benchmark.methods.at import attention

_LEAST_SIDE = 4


def draw(source: FigureSource) -> Iterator[Drawing]:
    """Yield a figure for each column with finished runs of networks that have maps."""
    for found in columns(source):
        if any(deepest(one) is not None for one in found.networks):
            yield _drawing(source, found)


def deepest(one: LookedAt) -> Any:
    """Return the attention maps [n, H, W] of the deepest stage that still shows places."""
    wide = [s for s in one.stages if s.ndim == 4 and min(s.shape[2:]) >= _LEAST_SIDE and len(s)]
    if not wide:
        return None
    maps = attention(wide[-1])
    return maps.reshape(-1, *wide[-1].shape[2:])


def _drawing(source: FigureSource, found: LookedColumn) -> Drawing:
    shown = [(one, maps) for one in found.networks if (maps := deepest(one)) is not None]
    images = found.images.images[:MAPS]
    size = (0.85 * len(images) + 1.2, 0.5 + 0.85 * (len(shown) + 1))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(shown) + 1, len(images), squeeze=False)
    title = title_of(source.grid, f"{column_title(found.column)}, attention maps")
    figure.suptitle(title, x=0.01, ha="left", wrap=True)
    rows: list[dict[str, Any]] = []
    for n, axes in enumerate(panels[0]):
        axes.imshow(_visible(images[n]), interpolation="nearest")
        axes.set_title(
            str(int(found.images.labels[n])), fontsize=7, loc="center", fontweight="normal"
        )
    for line, (one, maps) in zip(panels[1:], shown, strict=True):
        for n, axes in enumerate(line):
            axes.imshow(maps[n].numpy(), cmap="cividis", interpolation="nearest")
            rows += [
                {"row": one.name, "image": n, "y": y, "x": x, "attention": float(maps[n, y, x])}
                for y in range(maps.shape[1])
                for x in range(maps.shape[2])
            ]
        line[0].set_ylabel(one.name, rotation=0, ha="right", va="center")
    panels[0][0].set_ylabel("image", rotation=0, ha="right", va="center")
    for axes in panels.ravel():
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
    name = file_name(source.grid.name, "attention", found.column.name)
    return Drawing(name, title, figure, rows, found.runs)


def _visible(image: torch.Tensor) -> Any:
    """Return a normalised image [C, H, W] as pixels [H, W, C] between 0 and 1."""
    low, high = image.amin(), image.amax()
    return ((image - low) / (high - low).clamp_min(1e-9)).permute(1, 2, 0).numpy()
