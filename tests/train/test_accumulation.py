"""Accumulated gradients and averaged weights: what they are, and that a kill changes nothing."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from benchmark.base.errors import UserError
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.table.recipe import named_recipe
from benchmark.train.losses import MicroBatch, Objective
from benchmark.train.optimiser import build_optimizer
from benchmark.train.session import AVERAGE_PREFIX
from tests.helpers import SHORT, digits_plan, numbers, train

SETS = (
    *SHORT,
    "recipe.batch_size=10",  # ten batches an epoch: steps of three, three, three and one
    "recipe.accumulate=3",
    "recipe.average.decay=0.9",
    "recipe.label_smoothing=0.1",
)
ONLY = ["column=wrn_16_2-resnet8", "row=Student"]


def test_parts_of_a_step_end_with_the_epoch() -> None:
    parts = [MicroBatch.of(step, 5, 2) for step in range(5)]
    assert [(p.first, p.last, p.batches) for p in parts] == [
        (True, False, 2),
        (False, True, 2),
        (True, False, 2),
        (False, True, 2),
        (True, True, 1),
    ]


def test_two_halves_make_the_gradient_of_the_whole() -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(8, 5), torch.randint(0, 3, (8,))
    layers = [nn.Linear(5, 3) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    recipe = named_recipe("digits_60")
    objective = Objective([], [], None, None)

    def step(
        layer: nn.Linear, rows: slice, optimizer: torch.optim.Optimizer, part: MicroBatch
    ) -> None:
        loss = nn.functional.cross_entropy(layer(images[rows]), labels[rows])
        objective.step({"ce": loss}, list(layer.parameters()), optimizer, 0.1, part)

    optimizers = [build_optimizer(recipe, layer.parameters()) for layer in layers]
    for _ in range(3):
        step(layers[0], slice(0, 8), optimizers[0], MicroBatch(True, True, 1))
        step(layers[1], slice(0, 4), optimizers[1], MicroBatch(True, False, 2))
        step(layers[1], slice(4, 8), optimizers[1], MicroBatch(False, True, 2))
        for ours, theirs in zip(layers[1].parameters(), layers[0].parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def trained(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """A student trained at one go."""
    (run,) = digits_plan(digits, ONLY, sets=SETS).runs
    runs_dir = tmp_path_factory.mktemp("whole")
    assert set(train([run], digits, runs_dir).endings.values()) == {"done"}
    return runs_dir, run


@pytest.mark.slow
@pytest.mark.parametrize("ticks", [2, 3, 7, 12, 15])
def test_a_run_goes_on_between_the_parts_of_a_step(
    trained: tuple[Path, Run], digits: Path, tmp_path: Path, ticks: int
) -> None:
    whole, run = trained
    calls = itertools.count(1)
    stop = lambda: "asked to" if next(calls) == ticks else None  # noqa: E731
    outcome = train([run], digits, tmp_path, stop=stop)
    assert set(outcome.endings.values()) == {"stopped"}
    train([run], digits, tmp_path)
    assert numbers(tmp_path, run) == numbers(whole, run)


def test_averaged_weights_stand_beside_the_trained_ones(trained: tuple[Path, Run]) -> None:
    runs_dir, run = trained
    rundir = RunDir(runs_dir, run.key)
    result, records = rundir.read_result(), rundir.read_records()
    last = records[-1]
    assert result["average"] == {"top1": last["average_top1"], "top5": last["average_top5"]}
    assert result["metrics"]["top1"]["last"] == last["test_top1"]
    assert last["average_loss"] != last["test_loss"]
    own = load_file(rundir.weights)
    averages = {
        k.removeprefix(AVERAGE_PREFIX): v
        for k, v in load_file(rundir.extras).items()
        if k.startswith(AVERAGE_PREFIX)
    }
    assert own.keys() == averages.keys()
    assert any(not torch.equal(own[k], averages[k]) for k in own)


def test_an_average_changes_no_number_of_the_run_itself(
    trained: tuple[Path, Run], digits: Path, tmp_path: Path
) -> None:
    whole, run = trained
    sets = [item for item in SETS if "average" not in item]
    (plain,) = digits_plan(digits, ONLY, sets=sets).runs
    assert plain.key != run.key
    train([plain], digits, tmp_path)
    ours, theirs = RunDir(tmp_path, plain.key), RunDir(whole, run.key)
    assert ours.read_result()["metrics"] == theirs.read_result()["metrics"]
    assert "average" not in ours.read_result()


def test_a_gradient_rule_cannot_accumulate(digits: Path) -> None:
    from benchmark.methods.base import Method

    class Ruled(Method):  # type: ignore[type-arg]
        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.options = None

        def update(self, *_args: object) -> None:
            raise AssertionError("never stepped")

        @property
        def ce_weight(self) -> float:
            return 1.0

    with pytest.raises(UserError, match="ruled replaces the optimiser step"):
        Objective([Ruled()], ["ruled"], accumulate=2)
