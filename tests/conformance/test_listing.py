"""`bench methods`: options without torch, parameters as counted elsewhere, costs as measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmark.base.errors import UserError
from benchmark.conformance.costs import measure_costs
from benchmark.conformance.listing import COSTS_FILE, listing
from benchmark.conformance.pairs import SMALL, Pair
from benchmark.conformance.parameters import Counts, Geometry, extra_parameters
from benchmark.methods.catalog import method_info, method_infos
from tests.conformance.command import bench

CIFAR100 = Geometry(num_classes=100, image_size=32, batch_size=64)
CASES: list[tuple[str, tuple[str, str], Counts]] = [
    ("kd", ("resnet56", "resnet20"), Counts(0, 0)),
    # The reference codes' own counts.
    ("fitnet", ("vgg13", "mobilenetv2"), Counts(4864, 0)),
    ("ofd", ("resnet32x4", "resnet8x4"), Counts(86912, 0)),
    ("reviewkd", ("resnet50", "mobilenetv2"), Counts(27933192, 0)),
    # Two embeddings of 128 dimensions: 64 x 128 + 128 each.
    ("crd", ("resnet56", "resnet20"), Counts(16640, 0)),
    # The boundary connectors are trained before the main stage alone.
    ("ab", ("wrn_40_2", "wrn_40_1"), Counts(0, 11424)),
]


@pytest.mark.parametrize(("name", "pair", "expected"), CASES)
def test_parameters_are_counted(name: str, pair: tuple[str, str], expected: Counts) -> None:
    assert extra_parameters(name, Pair(*pair), CIFAR100) == expected


def test_counting_says_where_a_method_is_undefined() -> None:
    with pytest.raises(UserError, match="fsp needs equal channels"):
        extra_parameters("fsp", Pair("wrn_40_2", "wrn_40_1"), CIFAR100)
    (entry,) = listing([method_info("fsp")], "cifar100")["methods"]
    assert entry["extra_parameters"]["wrn_40_2-wrn_40_1"] is None
    assert "equal channels" in entry["undefined"]["wrn_40_2-wrn_40_1"]


def test_the_committed_costs_cover_every_method() -> None:
    found = listing(list(method_infos().values()), "digits")
    assert found["measured"]["pair"] == ["resnet32x4", "resnet8x4"]
    assert found["measured"]["cpu"]
    for entry in found["methods"]:
        assert entry["relative_step_cost"] > 0, f"{entry['name']}: measure it again"
        low, high = entry["quartiles"]
        assert low <= entry["relative_step_cost"] <= high
        assert (entry["first_stage_step_cost"] is None) == (
            entry["name"] not in ("ab", "fsp", "ft", "mhgd")
        )


def test_costs_of_another_version_are_not_shown(tmp_path: Path) -> None:
    data: dict[str, Any] = json.loads(COSTS_FILE.read_text())
    for entry in data["methods"]:
        entry["version"] = -1
    other = tmp_path / "costs.json"
    other.write_text(json.dumps(data))
    (entry,) = listing([method_info("kd")], "digits", file=other)["methods"]
    assert entry["relative_step_cost"] is None
    missing = listing([method_info("kd")], "digits", file=tmp_path / "none.json")
    assert missing["measured"] is None


def test_costs_can_be_measured() -> None:
    infos = [method_info("kd"), method_info("ft")]
    conditions, costs = measure_costs(infos, SMALL[0], batch_size=2, rounds=2)
    assert conditions["rounds"] == 2
    assert set(costs) == {"kd", "ft"}
    assert costs["ft"]["first_stage_step_cost"] > 0
    assert "first_stage_step_cost" not in costs["kd"]


def test_the_listing_needs_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['bench', 'methods', 'dkd']\n"
        "from benchmark.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "beta = 8.0" in done.stdout
    assert "weight of the other classes' term" in done.stdout
    assert "kdsvd" not in done.stdout


def test_json_is_alone_on_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(monkeypatch, "methods", "at", "--json", "--table", "digits") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1
    (entry,) = found["methods"]
    assert entry["extra_parameters"] == {"wrn_16_2-resnet8": 0, "wrn_40_2-wrn_16_1": 0}
    assert entry["options"]["map"]["enum"][0] == "mean_of_powers"
    assert entry["options"]["weight"]["default"] == 1000


def test_measuring_needs_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(monkeypatch, "methods", "--measure") == 2
    assert "--measure needs --json" in capsys.readouterr().err
