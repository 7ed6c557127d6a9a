"""Grids for tests: made-up numbers with fixed seeds, in the shape of the papers' tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from benchmark.results.grid import Grid, GridCell, GridColumn, GridRow, SeedValues, State
from benchmark.table.published import Claim, Published

PAIRS = (
    ("resnet56", "resnet20"),
    ("resnet110", "resnet32"),
    ("resnet32x4", "resnet8x4"),
    ("WRN-40-2", "WRN-16-2"),
    ("WRN-40-2", "WRN-40-1"),
    ("VGG13", "VGG8"),
    ("resnet32x4", "ShuffleNetV1"),
    ("WRN-40-2", "ShuffleNetV1"),
    ("VGG13", "MobileNetV2"),
    ("ResNet50", "MobileNetV2"),
    ("resnet32x4", "ShuffleNetV2"),
)
METHODS = (
    ("features", ("FitNet", "RKD", "CRD", "OFD", "ReviewKD", "SimKD", "CAT-KD")),
    ("logits", ("KD", "DKD", "DHKD", "DHKD + ReviewKD")),
)


def published(value: float | None, **fields: Any) -> Published:
    return Published(value=value, source="paper", **fields)


def measured(
    values: Any, *, best: Any = None, state: State = State.DONE, **fields: Any
) -> GridCell:
    """A cell with values by `last`, and by `best` where given."""
    values = tuple(float(v) for v in values)
    samples = [SeedValues("last", values)]
    if best is not None:
        samples.append(SeedValues("best", tuple(float(v) for v in best)))
    fields = {"seeds": tuple(range(len(values))), "planned": len(values), **fields}
    return GridCell(state=state, samples=tuple(samples), **fields)


def small(cells: dict[str, GridCell], **fields: Any) -> Grid:
    """One column (resnet56 to resnet20), one row a cell; a row named Teacher is the teacher."""
    rows = [
        GridRow(name, {"Teacher": "teacher", "Student": "student"}.get(name, "method"))  # type: ignore[arg-type]
        for name in cells
    ]
    column = GridColumn("pair", "resnet56", "resnet20", "resnet56", "resnet20")
    defaults: dict[str, Any] = {
        "name": "small",
        "title": "A small table",
        "source": "Nobody, 2026",
        "metrics": ("top1",),
        "protocol": "last",
        "columns": (column,),
        "rows": tuple(rows),
        "cells": {(name, "pair", "top1"): cell for name, cell in cells.items()},
    }
    return Grid(**{**defaults, **fields})


def wide(num_pairs: int = 11, seeds: int = 3, sigma: float = 0.22, **fields: Any) -> Grid:
    """A table like DHKD's: pairs x 13 rows, published at n = 5, ours off by N(0, 0.3)."""
    rng = np.random.default_rng(11)
    groups = (("baselines", ("Teacher", "Student")), *METHODS)
    rows, cells = [], {}
    columns = [
        GridColumn(
            f"{teacher}-{student}",
            teacher,
            student,
            teacher,
            student,
            "same architecture" if i < 6 else "different architectures",
        )
        for i, (teacher, student) in enumerate(PAIRS[:num_pairs])
    ]
    for group, names in groups:
        for name in names:
            kind: Any = {"Teacher": "teacher", "Student": "student"}.get(name, "method")
            rows.append(GridRow(name, kind, group, counts_for_best=name != "DHKD + ReviewKD"))
            for column in columns:
                value = round(70 + 6 * rng.random(), 2)
                last = rng.normal(value + rng.normal(0, 0.3), sigma, seeds)
                best = last + np.abs(rng.normal(0.31, 0.1, seeds))
                if kind == "teacher":
                    cell = measured([value], exact=True, published=published(value, n=5))
                else:
                    runs = tuple(f"{name}-{column.name}-{seed}" for seed in range(seeds))
                    cell = measured(last, best=best, published=published(value, n=5), runs=runs)
                cells[name, column.name, "top1"] = cell
    defaults: dict[str, Any] = {
        "name": "wide",
        "title": "CIFAR-100 top-1 test accuracy (%)",
        "source": "Dual-Head Knowledge Distillation, arXiv 2411.08937, table 1",
        "metrics": ("top1",),
        "protocol": "last",
        "columns": tuple(columns),
        "rows": tuple(rows),
        "cells": cells,
    }
    return Grid(**{**defaults, **fields})


def with_cell(grid: Grid, row: str, column: str, cell: GridCell, metric: str = "top1") -> Grid:
    return replace(grid, cells={**grid.cells, (row, column, metric): cell})


def claim(row: str, relation: str | None, than: list[str], **fields: Any) -> Claim:
    expect = {"row": row, "relation": relation, "than": than, **fields}
    return Claim.model_validate({"text": "a sentence", "expect": expect, "source": "paper"})
