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
    rows = {(row, "resnet18") for row in ("Snapshot", "DLB", "USKD", "BAN")}
    assert unknown == {*rows, ("PS-KD", "resnet50")}


# By table: a source's block, and which of its cells speak of one of ours. The zoo's and MCL's
# ResNet-110 is another network, and SHAKE's own two rows of one name are printed nowhere.
OF_PEERS = {
    "mcl_okd": {
        name: {row: row for row in ("DML", "CL-ILR", "ONE", "OKDDip")} | {"Baseline": "Student"}
        for name in ("ResNet-32", "ResNet-110", "VGG-16", "DenseNet-40-12")
    },
    "dml_paper": {"ResNet-32 + ResNet-32": {"alone_1": "Student", "DML_1": "DML"}},
    "okddip_quote": {"ResNet-110": {"OKDDip": "OKDDip", "DML": "DML"}},
    "kdcl": {
        "ResNet-32": {"alone": "Student", "KDCL-General": "KDCL"},
        "WRN-16-2": {"alone": "Student"},
    },
    "mcl": {name: {"alone": "Student"} for name in ("ResNet-32", "WRN-16-2", "ShuffleNetV2 1x")},
    "switokd": {"WRN-16-2": {"alone": "Student"}},
    "zoo": {"resnet32": {"alone": "Student", "DML": "DML"}},
    "pcl": {name: {"PCL_of_source": "PCL"} for name in NETWORKS},
}
OF_SELVES = {
    "pskd": {
        "PreAct ResNet-18": {
            "Student": "Student",
            "Label smoothing": "Label smoothing",
            "CS-KD": "CS-KD",
            "Tf-KD": "Tf-KD reg",
            "PS-KD": "PS-KD",
        }
    },
    "pskd_fork": {
        name: {"Student": "Student", "BYOT": "BYOT", "PS-KD": "PS-KD"}
        for name in ("ResNet-18", "ResNet-50")
    },
    "tfkd": {
        "ResNet-18": {
            "Student": "Student",
            "Tf-KD self": "Tf-KD self",
            "Tf-KD reg": "Tf-KD reg",
            "lsr": "Label smoothing",
        }
    },
    "cskd": {"ResNet-18": {"Student": "Student", "CS-KD": "CS-KD"}},
    "byot": {name: {"Student": "Student", "c4": "BYOT"} for name in ("ResNet-18", "ResNet-50")},
    "byot_public": {name: {"c4": "BYOT"} for name in ("ResNet-18", "ResNet-50")},
}
COLUMNS = NETWORKS | SELF | {"PreAct ResNet-18": "resnet18", "resnet32": "resnet32"}
COLUMNS |= {"ResNet-32 + ResNet-32": "resnet32"}
# Students of pairs, alone.
COLUMNS |= {"WRN-16-2": "wrn_40_2-wrn_16_2", "ShuffleNetV2 1x": "resnet32x4-shufflenetv2"}


@pytest.mark.parametrize(("name", "of"), [("online", OF_PEERS), ("self", OF_SELVES)])
def test_no_number_of_a_source_is_left_out(
    name: str, of: dict[str, dict[str, dict[str, str]]], facts: Any
) -> None:
    blocks, table = facts[f"cifar100-{name}"]["blocks"], packaged(f"cifar100-{name}")
    for source, networks in of.items():
        for network, rows in networks.items():
            for theirs, row in rows.items():
                printed = blocks[source]["cells"][network][theirs]
                value = printed["value"] if isinstance(printed, dict) else printed
                entry = table.published_value(row, COLUMNS[network], "top1")
                assert entry is not None, (row, network)
                kept = {entry.value, *(other.value for other in entry.others)}
                assert value in kept, (source, row, network, value)


def test_a_pairs_smaller_network_stands_beside_it(facts: Any) -> None:
    block = facts["cifar100-online"]["blocks"]["kdcl_public"]["cells"]
    for column in facts["cifar100-online"]["blocks"]["shake"]["cells"]:
        entry = packaged("cifar100-online").published_value("KDCL", column, "top1")
        if column == "wrn_40_2-wrn_16_2":  # mislabelled by its source
            assert entry is None
            continue
        assert entry is not None
        assert [other.value for other in entry.others] == [block[column]["smaller"]]


def test_as_many_networks_as_the_source_trains() -> None:
    table = packaged("cifar100-online")
    columns = {column.name: column for column in table.columns}
    for row, method, option in (
        ("DML", "dml", "num_networks"),
        ("KDCL", "kdcl", "num_networks"),
    ):
        (found,) = (r for r in table.rows if r.name == row)
        for name in NETWORKS.values():
            assert found.per_column[name][method][option] == 3
        assert len(found.per_column) == len(columns)
    (okddip,) = (r for r in table.rows if r.name == "OKDDip")
    assert okddip.methods[0].options == {"num_peers": 2}  # and the leader
    assert [a.option for a in okddip.assumed] == ["okddip.num_peers"]
