"""Every table file loads, expands into runs, and is consistent with itself and the recipes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.methods.catalog import method_info
from benchmark.planning.matrix import Context, make_plan
from benchmark.table.published import Expectation
from benchmark.table.recipe import Recipe, named_recipe
from benchmark.table.selection import Selection, parse_selection
from benchmark.table.spec import Table
from tests.tables import papers
from tests.tables.papers import ALL_TABLES, packaged

LIGHT = {"mobilenetv2", "shufflenetv1", "shufflenetv2"}


@pytest.fixture(scope="session")
def golden(fixtures: Path) -> Path:
    return fixtures / "golden"


def expected_names() -> set[str]:
    named = {"cifar100", "cifar100-projector", "cifar100-crd", "cifar100-mdistiller", "imagenet"}
    named |= {"imagenet-projector", "imagenet-scripts", "deit", "dhkd-incompatibility", "digits"}
    named |= {"cifar100-online", "cifar100-self", "digits-online"}
    return named | {f"thesis-{number}" for number in range(2, 9)}


def test_all_tables_are_there() -> None:
    assert set(ALL_TABLES) >= expected_names()


@pytest.mark.parametrize("name", ALL_TABLES)
def test_a_table_expands_into_runs(name: str, tmp_path: Path) -> None:
    # Unknown methods, options, models, recipes and datasets are errors of make_plan.
    table = packaged(name)
    assert table.name == name
    plan = make_plan(table, Selection(seeds=(0,)), Context(tmp_path, "cpu"))
    assert len(plan.slots) == len(table.rows) * len(table.columns)
    for slot in plan.slots:
        trained = not slot.row.reference and slot.column.name not in slot.row.not_run
        assert bool(slot.variants) == trained, (slot.row.name, slot.column.name)
    assert not table.trainable or plan.runs


@pytest.mark.parametrize("name", ALL_TABLES)
def test_sources_and_assumptions_name_real_options(name: str) -> None:
    for row in packaged(name).rows:
        options = {use.name: set(method_info(use.name).resolve({})) for use in row.methods}
        options["recipe"] = set(Recipe.model_fields)
        for text in [*row.sources, *(assumed.option for assumed in row.assumed), *row.grid]:
            method, _, option = text.partition(".")
            assert option in options[method], f"{row.name}: {text}"


@pytest.mark.parametrize("name", ALL_TABLES)
def test_claims_hold_for_the_published_numbers(name: str) -> None:
    # A sentence that its own table's numbers contradict is a slip of the table file.
    table = packaged(name)
    compared = 0
    for claim in table.claims:
        for expectation in claim.expect:
            spoken_of = [packaged(other) for other in expectation.tables] or [table]
            outcomes = [found for other in spoken_of for found in _outcomes(other, expectation)]
            needed = expectation.at_least or len(outcomes)
            assert sum(outcomes) >= needed, claim.text
            compared += len(outcomes)
    assert bool(compared) == bool(table.published and table.claims)


def _outcomes(table: Table, expectation: Expectation) -> Iterator[bool]:
    """Yield per column whether it agrees, as far as the numbers are known."""
    sign = -1.0 if table.show_as == "error" else 1.0
    for column in expectation.columns or tuple(c.name for c in table.columns):
        values = {}
        for row in (expectation.row, *expectation.than):
            entry = table.published_value(row, column, expectation.metric)
            if entry is not None and entry.value is not None:
                values[row] = sign * entry.value
        own = values.pop(expectation.row, None)
        if own is None or (expectation.than and not values):
            continue
        yield _agrees(expectation, own, list(values.values()), table.margin)


def _agrees(expect: Expectation, own: float, others: list[float], margin: float) -> bool:
    if expect.above is not None or expect.below is not None:  # in tables of accuracy alone
        return own > (expect.above or 0.0) and own < (expect.below or 100.0)
    differences = [own - other for other in others]
    if expect.about is not None:  # some texts are a hundredth off their own table
        return all(abs(d - expect.about) < 0.015 for d in differences)
    return {
        "better": all(d > expect.by for d in differences),
        "worse": all(-d > expect.by for d in differences),
        # A text may call a small loss a tie, so the table's margin is allowed.
        "not_worse": all(d >= -margin for d in differences),
    }[expect.relation or ""]


def test_rows_of_the_dhkd_table_stand_in_its_order() -> None:
    table = packaged("cifar100")
    assert [row.name for row in table.rows] == [
        *("Teacher", "Student", "FitNet", "RKD", "CRD", "OFD", "ReviewKD", "SimKD", "CAT-KD"),
        *("KD", "DKD", "DHKD", "DHKD + ReviewKD"),
    ]
    assert len(table.columns) == 11
    assert [row.name for row in table.rows if not row.counts_for_best] == ["DHKD + ReviewKD"]


@pytest.mark.parametrize("name", [n for n in ALL_TABLES if packaged(n).recipe == "crd_240"])
def test_light_students_have_their_own_learning_rate(name: str) -> None:
    for column in packaged(name).columns:
        assert column.recipe == ({"lr": 0.01} if column.student in LIGHT else {}), column.name


@pytest.mark.parametrize(
    ("table", "row", "method", "option", "keys"),
    [
        ("cifar100", "DKD", "dkd", "beta", ("dkd", "beta_per_pair")),
        ("cifar100-mdistiller", "DKD", "dkd", "beta", ("dkd", "beta_per_pair")),
        ("cifar100", "ReviewKD", "reviewkd", "weight", ("reviewkd", "weight_per_pair_official")),
        ("cifar100", "CAT-KD", "catkd", "beta", ("catkd", "cifar100_per_pair")),
        ("cifar100", "CAT-KD", "catkd", "resolution", ("catkd", "cifar100_per_pair")),
        ("cifar100", "CAT-KD", "catkd", "normalize", ("catkd", "cifar100_per_pair")),
    ],
)
def test_options_per_pair_are_the_published_ones(
    golden: Path, table: str, row: str, method: str, option: str, keys: tuple[str, str]
) -> None:
    facts = papers.load(golden, "recipes.yaml")["methods"][keys[0]][keys[1]]
    spec = packaged(table)
    stated = {}
    for pair, fact in facts.items():
        value = fact[option] if isinstance(fact, dict) else fact
        if isinstance(value, bool | int | float):
            stated[papers.column(pair).replace("_", "-")] = value
    assumed = {
        column
        for item in spec.row(row).assumed
        if item.option == f"{method}.{option}"
        for column in item.columns or ()
    }
    for column in spec.columns:
        given = spec.row(row).per_column.get(column.name, {}).get(method, {})
        value = given.get(option, method_info(method).resolve({})[option])
        key = column.name.replace("_", "-")
        # A value comes from the source or is marked as assumed, never both, never neither.
        assert (key in stated) != (column.name in assumed), column.name
        if key in stated:
            assert value == stated[key], column.name


def test_thesis_cells_are_the_best_of_a_grid_chosen_on_test() -> None:
    for number in range(2, 9):
        table = packaged(f"thesis-{number}")
        methods = [row for row in table.rows if row.methods]
        assert all(row.select is not None and row.select.on == "test" for row in methods)
        sizes = {row.name: math.prod(map(len, row.grid.values())) for row in methods}
        assert sizes.pop("Two Temp") == 18
        assert set(sizes.values()) == {9}


def test_every_table_is_trained_and_not_only_printed() -> None:
    assert [name for name in ALL_TABLES if not packaged(name).trainable] == []
    rows = {row.name for row in packaged("deit").rows if row.reference}
    assert rows == {"DearKD (tiny)", "DearKD (small)"}


def test_the_transformers_have_the_recipes_of_their_codes(tmp_path: Path) -> None:
    plan = make_plan(packaged("deit"), Selection(), Context(tmp_path, "cuda"))
    runs = {slot.row.name: slot.variants[0].runs[0] for slot in plan.slots if slot.variants}
    deit, civt, ours = (runs[n].recipe for n in ("DeiT-Ti", "CivT-Ti", "Our Method (tiny)"))
    assert (
        deit
        == runs["DeiT-S distilled"].recipe
        == named_recipe("deit_300").model_copy(update={"device": "cuda"})
    )
    assert (deit.repeats, deit.drop_path, civt.repeats, civt.drop_path) == (3, 0.1, 1, 0.0)
    assert (civt.batch_size, ours.batch_size, civt.lr, ours.lr) == (1024, 256, 1e-3, 2.5e-4)
    assert (civt.test_interpolation, ours.test_interpolation) == (None, "bilinear")
    assert runs["ResNet-50"].recipe.optimizer == "sgd"
    assert runs["FunMatch"].recipe.holdout == round(1_281_167 * 0.02)
    assert runs["USKD (tiny)"].teacher is None
    assert runs["CivT-S"].teacher is not None
    # Teachers that have no file here are trained as torchvision's networks are.
    assert {run.recipe.optimizer for run in plan.teachers} == {"sgd"}


@pytest.mark.parametrize(
    ("table", "row", "images"),
    [
        ("imagenet", "DIST", 32),
        ("deit", "USKD (tiny)", 256),
        ("deit", "USKD (small)", 256),
        ("deit", "Our Method (tiny)", 256),
        ("imagenet-projector", "Ours", 256),
    ],
)
def test_losses_over_a_batch_see_what_the_published_run_saw(
    table: str, row: str, images: int, tmp_path: Path
) -> None:
    selection = parse_selection([f"row={row}"], "0", [])
    plan = make_plan(packaged(table), selection, Context(tmp_path, "cuda"))
    recipes = [run.recipe for run in plan.runs if run.methods]
    assert {recipe.batch_size // recipe.replicas for recipe in recipes} == {images}


def test_a_recipe_named_at_the_command_line_replaces_those_of_the_rows(tmp_path: Path) -> None:
    selection = Selection(named_recipe="imagenet_100", seeds=(0,))
    plan = make_plan(packaged("deit"), selection, Context(tmp_path, "cuda"))
    assert {run.recipe.optimizer for run in plan.runs} == {"sgd"}
    table = packaged("deit")
    row = table.row("ResNet-50").model_copy(update={"recipe": {"from": "imagenet_10"}})
    table = table.model_copy(update={"rows": (row,)})
    with pytest.raises(UserError, match=r"unknown recipe 'imagenet_10'.*'imagenet_100'"):
        make_plan(table, Selection(), Context(tmp_path, "cuda"))
