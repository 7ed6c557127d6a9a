"""Compositions whose methods derive the cross-entropy's weight from other options."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.base.errors import UserError
from benchmark.methods.catalog import method_info
from benchmark.planning.matrix import Context, Plan, make_plan
from benchmark.table.load import load_table
from benchmark.table.selection import Selection


@pytest.mark.parametrize(
    ("name", "options", "weight"),
    [
        ("kd", {}, 0.1),
        ("rkd", {}, 1.0),
        ("vanilla_kd", {"alpha": 0.3}, 0.3),
        ("vanilla_kd", {"alpha": 0.3, "alpha_on": "kd"}, 0.7),
    ],
)
def test_the_weight_is_known_without_building(
    name: str, options: dict[str, float], weight: float
) -> None:
    info = method_info(name)
    assert info.ce_weight(info.resolve(options)) == pytest.approx(weight)


def plan(folder: Path, methods: str) -> Plan:
    file = folder / "mine.yaml"
    row = f"rows: [{{name: Both, methods: {methods}}}]"
    file.write_text(f"schema: 1\nname: mine\nbase: digits\n{row}\n")
    return make_plan(load_table(str(file)), Selection(), Context(folder, "cpu"))


def test_derived_weights_are_compared(tmp_path: Path) -> None:
    assert plan(tmp_path, "[kd, {vanilla_kd: {alpha: 0.1}}]").runs
    with pytest.raises(UserError, match=r"disagree .* \(kd 0\.1, vanilla_kd 0\.3\)"):
        plan(tmp_path, "[kd, {vanilla_kd: {alpha: 0.3}}]")
