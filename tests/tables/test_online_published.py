"""The online and self tables print what their sources do, and nothing that is doubtful."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.table.published import Published
from tests.tables.papers import load, packaged

NETWORKS = {
    "ResNet-32": "resnet32",
    "ResNet-110": "resnet110_bottleneck",
    "VGG-16": "vgg16",
    "DenseNet-40-12": "densenet40_12",
    "WRN-20-8": "wrn_20_8",
}
SELF = {"ResNet-18": "resnet18", "ResNet-50": "resnet50"}
# Rows that stand for rows of a source under another name.
PAIRS = {"CL-ILR": "CL", "ONE": "ONE", "AFD": "AFD"}


@pytest.fixture(scope="module")
def facts(fixtures: Path) -> Any:
    return load(fixtures / "golden-online", "published.yaml")["tables"]


def entries(table: str) -> Iterator[tuple[str, str, Published]]:
    for row, cells in packaged(table).published.items():
        for column, metrics in cells.items():
            for entry in metrics.values():
                yield row, column, entry


def test_peers_of_one_kind(facts: Any) -> None:
    block = facts["cifar100-online"]["blocks"]["pcl"]["cells"]
    names = {column: name for name, column in NETWORKS.items()}
    found = 0
    for row, column, entry in entries("cifar100-online"):
        if column not in names or row == "Student":
            continue
        expected = block[names[column]][row]
        assert (entry.value, entry.std) == (expected["value"], expected["std"]), (row, column)
        assert (entry.n, entry.statistic, entry.status) == (None, "unstated", "reprint")
        found += 1
    assert found == sum(len(cells) - 1 for cells in block.values())  # without the source's own run


def test_pairs_from_scratch(facts: Any) -> None:
    block = facts["cifar100-online"]["blocks"]["shake"]["cells"]
    table = packaged("cifar100-online")
    for column, cells in block.items():
        for row, name in PAIRS.items():
            entry = table.published_value(row, column, "top1")
            assert entry is not None
            assert (entry.value, entry.n) == (cells[name], 3), (row, column)
        doubtful = table.published_value("DML", column, "top1")
        assert doubtful is not None
        assert doubtful.value is None


def test_students_alone_are_crds(facts: Any) -> None:
    crd = packaged("cifar100-crd")
    for column in facts["cifar100-online"]["blocks"]["shake"]["cells"]:
        ours = packaged("cifar100-online").published_value("Student", column, "top1")
        theirs = crd.published_value("Student", column, "top1")
        assert ours is not None
        assert theirs is not None
        assert ours.value == theirs.value


def test_self_distillation(facts: Any) -> None:
    block = facts["cifar100-self"]["blocks"]["selfkdlib"]["cells"]
    table = packaged("cifar100-self")
    for name, column in SELF.items():
        for row in table.rows:
            expected = block[name].get(row.name)
            entry = table.published_value(row.name, column, "top1")
            if expected is None or entry is None:
                continue
            value = expected["value"] if isinstance(expected, dict) else expected
            assert entry.value == value, (row.name, column)
            if value is not None:
                assert (entry.statistic, entry.n) == ("best", 1)


@pytest.mark.parametrize("table", ["cifar100-online", "cifar100-self"])
def test_what_sources_contradict_stands_beside_it(table: str) -> None:
    beside = [other for _, _, entry in entries(table) for other in entry.others]
    assert len(beside) > 10
    doubted = 67.73  # a pair that its own source mislabels
    assert all(other.value != doubted for other in beside)


def test_unknown_stays_unknown() -> None:
    unknown = {(row, column) for row, column, e in entries("cifar100-self") if e.value is None}
    assert unknown == {(row, "resnet18") for row in ("Snapshot", "DLB", "USKD", "BAN")}
