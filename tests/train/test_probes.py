"""Probes record what they say, once an epoch, and move no number."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from benchmark.models import build_model
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.train.probes import known_probes
from benchmark.train.probes.conflict import gradient_cosines, simplex_distance
from benchmark.train.probes.projection import correlation, singular_values
from tests.cli.command import bench
from tests.helpers import SHORT, digits_plan, numbers, train

ONLY = ["column=wrn_16_2-resnet8", "row=my projector", "row=my dhkd"]
PROBES = "recipe.probes=conflict,projection"


def planned(data: Path, folder: Path, *sets: str) -> list[Run]:
    """Return a teacher's run and two students' that have dropout, a gradient rule, a projector."""
    table = folder / "mine.yaml"
    rows = "".join(f"  - {{name: my {m}, methods: [{m}]}}\n" for m in ("projector", "dhkd"))
    table.write_text(f"schema: 1\nname: mine\nbase: digits\nrows:\n{rows}")
    return list(digits_plan(data, ONLY, sets=[*SHORT, *sets], table=str(table)).runs)


def recorded(runs_dir: Path, run: Run) -> list[dict[str, Any]]:
    lines = RunDir(runs_dir, run.key).read_probes()
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def watched(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Run]]:
    """Two finished students with probes, and their teacher without a method."""
    folder = tmp_path_factory.mktemp("watched")
    teacher, *students = planned(digits, folder, PROBES)
    train([teacher], digits, folder)
    assert set(train(students, digits, folder).endings.values()) == {"done"}
    return folder, [teacher, *students]


def linked(source: Path, target: Path, teacher: Run) -> None:
    (target / teacher.key).symlink_to(source / teacher.key)


def test_they_move_no_key_and_no_number(
    watched: tuple[Path, list[Run]], digits: Path, tmp_path: Path
) -> None:
    folder, runs = watched
    plain = planned(digits, tmp_path)
    assert [run.key for run in plain] == [run.key for run in runs]
    linked(folder, tmp_path, runs[0])
    train(plain[1:], digits, tmp_path)
    for run in plain[1:]:
        assert numbers(tmp_path, run) == numbers(folder, run)
        assert not RunDir(tmp_path, run.key).probes.exists()


def test_each_epoch_has_its_lines(watched: tuple[Path, list[Run]]) -> None:
    folder, (teacher, *students) = watched
    assert [(one["epoch"], one["probe"]) for one in recorded(folder, teacher)] == [
        (1, "conflict"),
        (2, "conflict"),
    ]
    assert "cosines" not in recorded(folder, teacher)[0]  # nobody teaches it
    by_method = {run.methods[0].name: recorded(folder, run) for run in students}
    assert [(one["epoch"], one["probe"]) for one in by_method["projector"]] == [
        (epoch, probe) for epoch in (1, 2) for probe in ("conflict", "projection")
    ]
    assert {one["probe"] for one in by_method["dhkd"]} == {"conflict"}
    first = by_method["projector"][0]
    assert len(first["cosines"]) == 10  # resnet8's weights
    assert first["classifier"] == "fc.weight"
    assert all(-1 <= value <= 1 for value in first["cosines"].values())
    (one,) = by_method["projector"][1]["maps"].values()
    assert len(one["singular_values"]["weight"]) == 64
    assert 0 < one["correlation"] < 1


# In the middle of the first epoch, in its evaluation, and in the second one's.
@pytest.mark.parametrize(
    "ticks", [pytest.param(2, marks=pytest.mark.slow), 4, pytest.param(10, marks=pytest.mark.slow)]
)
def test_an_interrupted_run_records_every_epoch_once(
    watched: tuple[Path, list[Run]], digits: Path, tmp_path: Path, ticks: int
) -> None:
    folder, (teacher, *students) = watched
    linked(folder, tmp_path, teacher)
    calls = {"n": 0}

    def stop() -> str | None:
        calls["n"] += 1
        return "asked to" if calls["n"] == ticks else None

    assert set(train(students, digits, tmp_path, stop=stop).endings.values()) == {"stopped"}
    # Killed after what follows a checkpoint was written.
    for run in students:
        with RunDir(tmp_path, run.key).probes.open("a") as file:
            file.write('{"schema": 1, "epoch": 2, "probe": "conflict"}\n{"half')
    assert set(train(students, digits, tmp_path).endings.values()) == {"done"}
    for run in students:
        assert recorded(tmp_path, run) == recorded(folder, run)


def test_one_that_fails_ends_no_run(
    watched: tuple[Path, list[Run]],
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def observe(seen: Any) -> None:
        torch.rand(3)  # nobody else's random numbers
        raise RuntimeError("no such layer")

    broken = ModuleType("benchmark.train.probes.broken")
    broken.observe = observe  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, broken.__name__, broken)
    folder, (teacher, _, run) = watched
    linked(folder, tmp_path, teacher)
    recipe = run.recipe.model_copy(update={"probes": ("broken", "conflict")})
    with caplog.at_level(logging.INFO, logger="benchmark"):
        train([run.model_copy(update={"recipe": recipe})], digits, tmp_path)
    assert numbers(tmp_path, run) == numbers(folder, run)
    assert recorded(tmp_path, run) == recorded(folder, run)
    assert caplog.text.count("probe broken failed and is left out") == 1


def test_an_unknown_probe_is_refused(digits: Path) -> None:
    refused = bench("plan", "-t", "digits", "--data", digits, "--set", "recipe.probes=conflikt")
    assert (refused.code, refused.out) == (2, "")
    assert "unknown probe 'conflikt'" in refused.err
    assert "did you mean 'conflict'" in refused.err


def test_several_are_no_sweep_and_train_no_teacher_anew(digits: Path) -> None:
    said = bench(
        "plan", "-t", "digits", "--data", digits, "--only", "row=KD", "--seeds", "0",
        "--set", PROBES, "--json",
    )  # fmt: skip
    assert said.code == 0, said.err
    plain = bench(
        "plan", "-t", "digits", "--data", digits, "--only", "row=KD", "--seeds", "0", "--json"
    )
    ours, theirs = (json.loads(one.out)["cells"] for one in (said, plain))
    assert [cell["key"] for cell in ours] == [cell["key"] for cell in theirs]
    assert "anew" not in said.err


def test_every_probe_says_what_it_records() -> None:
    assert set(known_probes()) >= {"conflict", "projection"}
    assert all(known_probes().values())


def test_singular_values_and_correlations() -> None:
    linear = nn.Linear(3, 3)
    with torch.no_grad():
        linear.weight.copy_(torch.diag(torch.tensor([1.0, -3.0, 2.0])))
    assert singular_values(linear) == {"weight": [3.0, 2.0, 1.0]}
    inputs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert correlation(inputs, 5 * inputs + 2) == pytest.approx(0.5)
    assert correlation(inputs, torch.ones(4, 3)) == 0.0


def test_cosines_of_gradients() -> None:
    torch.manual_seed(0)
    model = build_model("resnet8", 5).eval()
    features = model.features(torch.randn(4, 3, 8, 8))
    loss = features.logits.square().sum()
    found = gradient_cosines(model, loss, -3 * loss)
    assert found.classifier == "fc.weight"
    assert found.backbone == pytest.approx(-1.0)
    assert list(found.tensors.values()) == pytest.approx([-1.0] * len(found.tensors))
    assert all(p.grad is None for p in model.parameters())
    features = model.features(torch.randn(4, 3, 8, 8))
    head, body = features.logits[:, 0].sum(), features.pooled.sum()
    assert "fc.weight" not in gradient_cosines(model, head, body).tensors


def test_the_corners_of_a_simplex_are_at_zero() -> None:
    assert simplex_distance(3 * (torch.eye(5) - 0.2) + 7) == pytest.approx(0.0, abs=1e-6)
    assert simplex_distance(torch.tensor([[1.0, 0], [1, 0.1], [-1, 0]])) > 0.3
