"""The published numbers as the shared fixtures hold them, in the names of the table files."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from benchmark.table.load import PACKAGED, load_table
from benchmark.table.spec import Table

ALL_TABLES = sorted(path.stem for path in PACKAGED.glob("*.yaml"))

Cell = tuple[str, str, str]  # row, column, metric

ROWS = {
    "teacher": "Teacher",
    "student": "Student",
    **{f"RKD V{n}": f"Relative KD v{n}" for n in (1, 2, 3, 4)},
}
IMAGENET = {"R34-R18": "tv_resnet34-tv_resnet18", "R50-MV1": "tv_resnet50-mobilenetv1"}
THESIS = {
    2: "tv_resnet152-tv_resnet50",
    3: "resnet34-resnet18",
    4: "resnet34-resnet18",
    5: "wrn_40_1-wrn_16_1",
    6: "wrn_40_1-wrn_16_1",
    7: "wrn_40_2-wrn_16_2",
    8: "wrn_40_2-wrn_16_2",
}
MDISTILLER_GRIDS = ("dkd_paper_grid", "lskd_grid", "nd_grid", "dtokd_grid", "dist_grid")


@cache
def packaged(name: str) -> Table:
    """Return one of the project's own tables, read once."""
    return load_table(name)


@cache
def load(folder: Path, name: str) -> Any:
    """Return one file of facts."""
    return yaml.load((folder / name).read_text("utf-8"), Loader=yaml.CSafeLoader)


def column(pair: str) -> str:
    """Return a pair's column: ``resnet32x4-ShuffleV1`` is ``resnet32x4-shufflenetv1``."""
    return pair.replace("ShuffleV", "shufflenetv").replace(">", "-").lower()


def row(method: str) -> str:
    """Return a method's row: compositions are spaced, except thesis names."""
    method = ROWS.get(method, method)
    return method if "++" in method else method.replace("+", " + ")


def published(folder: Path, table: str) -> dict[Cell, float | None]:
    """Return what a table must hold: a number, or None where it is known to be unreadable."""
    return dict(_CELLS[table](folder))


def _cifar100(folder: Path) -> Iterator[tuple[Cell, float | None]]:
    for pair, methods in load(folder, "cifar100_dhkd.yaml")["cells"].items():
        for method, cell in methods.items():
            yield (row(method), column(pair), "top1"), cell["value"]


def _projector(folder: Path) -> Iterator[tuple[Cell, float | None]]:
    for pair, methods in load(folder, "cifar100_projector.yaml")["cells"].items():
        for method, cell in methods.items():
            yield (row(method), column(pair), "top1"), cell["value"]


def _crd(folder: Path) -> Iterator[tuple[Cell, float | None]]:
    facts = load(folder, "cifar100_crd.yaml")
    for family in ("same_architecture", "different_architecture"):
        for pair, methods in facts[family].items():
            for method, cell in methods.items():
                value = cell["value"] if isinstance(cell, dict) else cell
                yield (row(method), column(pair), "top1"), value


def _imagenet(folder: Path) -> Iterator[tuple[Cell, float | None]]:
    for pair, metrics in load(folder, "imagenet_dhkd.yaml")["cells"].items():
        for metric, methods in metrics.items():
            for method, cell in methods.items():
                yield (row(method), IMAGENET[pair], metric), cell["value"]


def _imagenet_projector(folder: Path) -> Iterator[tuple[Cell, float | None]]:
    for method, cell in load(folder, "imagenet_projector.yaml")["cells"].items():
        yield (row(method), IMAGENET["R34-R18"], "top1"), cell["acc1_error"]
        yield (row(method), IMAGENET["R34-R18"], "top5"), cell["acc5_error"]


def deit_row(fact: dict[str, Any]) -> str:
    """Return a row of the DeiT table; networks that occur twice carry their group."""
    name = str(fact["network"])
    return f"{name} ({fact['group']})" if name in ("DearKD", "USKD", "Our Method") else name


def _deit(folder: Path) -> Iterator[tuple[Cell, float | None]]:
    for fact in load(folder, "deit_projector.yaml")["rows"]:
        yield (deit_row(fact), "imagenet", "top1"), fact["acc1"]


def _thesis(number: int) -> Any:
    def cells(folder: Path) -> Iterator[tuple[Cell, float | None]]:
        facts = load(folder, "thesis.yaml")["tables"][f"table{number}"]["cells"]
        for method, cell in facts.items():
            yield (row(method), THESIS[number], "top1"), cell["value"]

    return cells


_CELLS = {
    "cifar100": _cifar100,
    "cifar100-crd": _crd,
    "cifar100-projector": _projector,
    "imagenet": _imagenet,
    "imagenet-projector": _imagenet_projector,
    "deit": _deit,
    **{f"thesis-{number}": _thesis(number) for number in THESIS},
}
SINGLE_SOURCE_TABLES = tuple(_CELLS)


def mdistiller(folder: Path) -> dict[Cell, set[float]]:
    """Return every number that any source of the mdistiller grid prints for a cell."""
    facts = load(folder, "cifar100_mdistiller.yaml")
    found: dict[Cell, set[float]] = {}

    def add(pair: str, method: str, value: Any) -> None:
        if isinstance(value, int | float):
            found.setdefault((row(method), column(pair), "top1"), set()).add(float(value))

    grids = [facts["readme"]["cifar100"], facts["readme"]["cifar100_dot"]]
    grids += [facts[name]["cells"] for name in MDISTILLER_GRIDS]
    for grid in grids:
        for pair, methods in grid.items():
            for method, value in methods.items():
                if method != "std":
                    add(pair, method, value)
    # The facts refer to the CRD benchmark for the other methods at the same pairs.
    crd = load(folder, "cifar100_crd.yaml")
    for family in ("same_architecture", "different_architecture"):
        for pair, methods in crd[family].items():
            for method, value in methods.items():
                if method not in ("teacher", "student"):
                    add(pair, method, value)
    for record in spreads(folder):
        if record["source"].startswith("TTM") and record["method"] == "DIST":
            add(record["pair"], "DIST", float(record["mean"]))
    return found


@cache
def spreads(folder: Path) -> tuple[dict[str, str], ...]:
    """Return the published means with their standard deviations."""
    with (folder / "seed_std.csv").open(encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


# Their facts lie in a file of their own, by the tables' names.
OWN_FACTS = ("cifar100-online", "cifar100-self")


def numbers(folder: Path, table: str) -> set[float]:
    """Return every number that occurs in the facts for a table, rounded to 4 decimals."""
    found: set[float] = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.add(round(float(value), 4))

    if table in OWN_FACTS:
        walk(load(folder.parent / "golden-online", "published.yaml")["tables"][table])
        return found
    for path in sorted(folder.glob("*.yaml")):
        walk(load(folder, path.name))
    found |= {round(float(record["mean"]), 4) for record in spreads(folder)}
    return found
