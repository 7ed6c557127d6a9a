"""Published values equal the facts, cell for cell and in both directions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from benchmark.table.load import PACKAGED
from benchmark.table.published import Published
from benchmark.table.spec import Table
from tests.tables import papers
from tests.tables.papers import ALL_TABLES, Cell, packaged

WITHOUT_NUMBERS = {"digits", "dhkd-incompatibility"}


@pytest.fixture(scope="session")
def facts(fixtures: Path) -> Path:
    return fixtures / "papers"


def entries(table: Table) -> dict[Cell, Published]:
    return {
        (row, column, metric): entry
        for row, columns in table.published.items()
        for column, metrics in columns.items()
        for metric, entry in metrics.items()
    }


@pytest.mark.parametrize("name", papers.SINGLE_SOURCE_TABLES)
def test_values_equal_the_facts(name: str, facts: Path) -> None:
    found = {cell: entry.value for cell, entry in entries(packaged(name)).items()}
    assert found == papers.published(facts, name)


def test_mdistiller_holds_every_number_of_every_source(facts: Path) -> None:
    table = packaged("cifar100-mdistiller")
    columns = {column.name for column in table.columns}
    rows = {row.name for row in table.rows}
    baselines = {"Teacher", "Student"}
    found = {
        cell: {entry.value, *(other.value for other in entry.others)}
        for cell, entry in entries(table).items()
        if cell[0] not in baselines
    }
    expected = {
        cell: values
        for cell, values in papers.mdistiller(facts).items()
        if cell[0] in rows and cell[1] in columns
    }
    assert found == expected
    # Rows that are left out belong to the CRD benchmark, columns likewise.
    left_out = set(papers.mdistiller(facts)) - set(expected)
    assert {row for row, column, _ in left_out if column in columns} == {*("CC", "AB", "FT", "FSP")}
    assert {column for _, column, _ in left_out} - columns == {"resnet50-vgg8"}


def test_mdistiller_baselines_are_the_networks_own(facts: Path) -> None:
    recipes = papers.load(facts.parent / "golden", "recipes.yaml")
    networks = recipes["published_results"]["repdistiller_cifar100"]
    known = {
        papers.column(k): v for k, v in {**networks["teachers"], **networks["students"]}.items()
    }
    table = packaged("cifar100-mdistiller")
    for column in table.columns:
        for row, network in (("Teacher", column.teacher), ("Student", column.student)):
            entry = table.published_value(row, column.name, "top1")
            assert entry is not None
            assert entry.value == known[network], (row, column.name)


@pytest.mark.parametrize("name", sorted(set(ALL_TABLES) - WITHOUT_NUMBERS))
def test_other_values_are_in_the_facts_too(name: str, facts: Path) -> None:
    table = packaged(name)
    known = papers.numbers(facts, name)
    for cell, entry in entries(table).items():
        for other in entry.others:
            # Where papers print accuracy and error, one of the two forms is in the facts.
            forms = {round(other.value, 4), round(100 - other.value, 4)}
            assert forms & known, (cell, other)
            assert other.value != entry.value, (cell, other)


@pytest.mark.parametrize("name", papers.OWN_FACTS)
def test_values_of_tables_with_facts_of_their_own_are_in_them(name: str, facts: Path) -> None:
    known = {"": papers.numbers(facts, name), "CRD README": papers.numbers(facts, "cifar100-crd")}
    for cell, entry in entries(packaged(name)).items():
        if entry.value is not None:
            assert round(entry.value, 4) in known.get(entry.source, known[""]), cell


@pytest.mark.parametrize("name", sorted(WITHOUT_NUMBERS))
def test_tables_without_published_numbers_stay_without(name: str) -> None:
    assert packaged(name).published == {}


def test_disagreements_between_sources_are_kept(facts: Path) -> None:
    tables = {
        "cifar100_dhkd": "cifar100",
        "cifar100_projector": "cifar100-projector",
        "imagenet_dhkd": "imagenet",
        "imagenet_projector": "imagenet-projector",
    }
    checked = 0
    for item in papers.load(facts, "disagreements.yaml")["items"]:
        if item["table"] not in tables or not isinstance(item.get("other"), int | float):
            continue
        table = packaged(tables[item["table"]])
        pair = item.get("pair", "R34-R18")
        column = papers.IMAGENET.get(pair, papers.column(pair))
        metric = _metric(item.get("metric", "top1"))
        entry = table.published_value(papers.row(item["method"]), column, metric)
        assert entry is not None, item
        shown = {entry.value, *(other.value for other in entry.others)}
        if table.show_as == "error":
            shown = {round(100 - value, 4) for value in shown if value is not None}
        own = item.get("seed", item.get("taken", item.get("seed_shifted_candidate")))
        expected = {item["other"]} | ({own} if isinstance(own, int | float) else set())
        assert expected <= shown, item
        checked += 1
    assert checked > 70


def _metric(text: str) -> Any:
    return "top5" if text.startswith("top5") else "top1"


@pytest.mark.parametrize("name", ALL_TABLES)
def test_every_value_says_where_it_was_read(name: str) -> None:
    documented = (PACKAGED.parent / "docs" / "reproducing.md").read_text("utf-8")
    labels = set(re.findall(r"^\| `([^`]+)` \|", documented, flags=re.MULTILINE))
    kinds = {"poster", "thesis", "paper", "readme", "reprint", "reimplementation", "note"}
    for cell, entry in entries(packaged(name)).items():
        assert entry.status in kinds | {"unknown"}
        assert (entry.value is None) == (entry.status == "unknown"), cell
        if entry.value is None:
            assert entry.note, cell
        for text in (entry.source, *(other.source for other in entry.others)):
            for label in text.split("; "):
                assert label in labels, f"{cell}: source '{label}' is not in docs/reproducing.md"


def test_a_poster_is_named_only_where_it_is_legible(facts: Path) -> None:
    table = packaged("cifar100")
    for pair, methods in papers.load(facts, "cifar100_dhkd.yaml")["cells"].items():
        for method, fact in methods.items():
            entry = table.published_value(papers.row(method), papers.column(pair), "top1")
            assert entry is not None
            assert (entry.status == "poster") == (fact["status"] == "seed"), (pair, method)
            assert (entry.status == "unknown") == (fact["status"] == "unknown"), (pair, method)


@pytest.mark.parametrize("name", ["cifar100", "cifar100-crd", "cifar100-projector"])
def test_spreads_are_those_of_the_crd_paper(name: str, facts: Path) -> None:
    known = {
        (papers.row(record["method"]), papers.column(record["pair"])): record
        for record in papers.spreads(facts)
        if record["source"].startswith("CRD ICLR")
    }
    counted = 0
    for (row, column, _), entry in entries(packaged(name)).items():
        if entry.std is None:
            continue
        record = known[row, column]
        assert (entry.value, entry.std, entry.n) == (
            float(record["mean"]),
            float(record["std"]),
            int(record["n"]),
        )
        assert entry.statistic == "last"
        counted += 1
    assert counted == {"cifar100": 44, "cifar100-crd": len(known), "cifar100-projector": 3}[name]


def test_mdistiller_spreads_are_in_the_facts(facts: Path) -> None:
    grids = papers.load(facts, "cifar100_mdistiller.yaml")
    known = {
        (papers.row(record["method"]), papers.column(record["pair"])): float(record["std"])
        for record in reversed(papers.spreads(facts))
        if record["dataset"] == "cifar100"
    }
    known |= {
        ("DIST", papers.column(pair)): float(cell["std"])
        for pair, cell in grids["dist_grid"]["cells"].items()
    }
    known |= {
        ("IKL-KD", papers.column(pair)): float(std)
        for pair, std in grids["dkd_paper_grid"]["std"]["IKL-KD"].items()
    }
    for (row, column, _), entry in entries(packaged("cifar100-mdistiller")).items():
        if entry.std is not None:
            assert entry.std == known[row, column], (row, column)


@pytest.mark.parametrize("name", ALL_TABLES)
def test_an_unstated_number_of_runs_is_more_than_one_only_where_sources_suggest_it(
    name: str,
) -> None:
    stated = packaged(name).unstated_n
    several = {"cifar100", "cifar100-crd", "cifar100-mdistiller", "cifar100-projector"}
    # It prints deviations, which are of more than one run.
    several.add("cifar100-online")
    assert stated.runs == (3 if name in several else 1)
    assert bool(stated.note) == (name in several)
    if name in several:  # no source with a stated number has fewer
        counts = [entry.n for entry in entries(packaged(name)).values() if entry.n]
        assert min(counts, default=3) == 3


@pytest.mark.parametrize("name", ALL_TABLES)
def test_what_comes_out_instead_is_what_the_reason_says(name: str) -> None:
    table = packaged(name)
    for miss in table.expected_misses:
        entry = table.published_value(miss.row, miss.column, miss.metric)
        assert entry is not None
        assert miss.value != entry.value
        assert f"{miss.value:.2f}" in miss.reason or f"{miss.value:g}" in miss.reason
        assert (table.show_as == "error") == (miss.value < 50)


# Read in the sources: who moves the statistics of wide ResNets how often (docs/reproducing.md).
@pytest.mark.parametrize(
    ("table", "twice"),
    [
        ("cifar100", {"OFD", "SimKD", "DKD"}),
        ("cifar100-crd", {"AB"}),
        ("dhkd-incompatibility", set()),
    ],
)
def test_wide_resnets_are_those_of_each_rows_source(table: str, twice: set[str]) -> None:
    rows = packaged(table).rows
    assert packaged(table).recipe_overrides["norm_updates"] == "once"
    assert {row.name for row in rows if row.recipe.get("norm_updates") == "twice"} == twice
    rows = packaged("cifar100-mdistiller").rows
    assert {row.name for row in rows if row.recipe.get("norm_updates") == "once"} == {"CAT-KD"}


@pytest.mark.parametrize("table", ["cifar100", "cifar100-crd", "cifar100-mdistiller"])
def test_who_moves_them_otherwise_than_the_table_has_a_source_or_is_an_assumption(
    table: str,
) -> None:
    for row in packaged(table).rows:
        if "norm_updates" in row.recipe:
            sources = ",".join(row.sources)
            assumed = [a.option for a in row.assumed]
            assert "recipe.norm_updates" in sources or "recipe.norm_updates" in assumed, row.name
