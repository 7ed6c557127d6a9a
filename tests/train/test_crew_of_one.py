"""One process in a group of torch.distributed changes no number: gloo here, NCCL on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmark.planning.packs import Pack
from benchmark.run.directory import RunDir
from benchmark.train.crew import in_order
from benchmark.train.join import join
from benchmark.train.pack import Surroundings, train_pack
from benchmark.train.place import Place
from benchmark.train.processes import Processes
from benchmark.train.report import Lines
from tests.helpers import SHORT, digits_plan, numbers, train

ON_A_GPU = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    ],
)
on_each_device = pytest.mark.parametrize("device", ["cpu", ON_A_GPU])
SETS = (*SHORT, "recipe.replicas=2")
ONLY = ("row=Student", "student=resnet8")


@pytest.fixture
def crew() -> Iterator[Processes]:
    found = join(Place(0, 1, 0))
    yield found
    found.close()


@on_each_device
def test_what_is_exchanged_comes_back(crew: Processes, device: str) -> None:
    crew.use(device)
    rows = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0)).to(device)
    assert torch.equal(crew.added(rows, 3), in_order(rows))
    given = [torch.arange(5, device=device), torch.ones(2, 2, device=device)]
    kept = [tensor.clone() for tensor in given]
    crew.first(given)
    assert all(torch.equal(a, b) for a, b in zip(given, kept, strict=True))
    assert crew.objects({"said": [1, "two"]}) == [{"said": [1, "two"]}]


@on_each_device
def test_replicas_train_as_without_a_group(
    crew: Processes, digits: Path, tmp_path: Path, device: str
) -> None:
    (run,) = digits_plan(digits, ONLY, sets=SETS).runs
    # A GPU's sums may differ from one pass to the next unless it is told otherwise.
    recipe = run.recipe.model_copy(update={"device": device, "deterministic": device == "cuda"})
    run = run.model_copy(update={"recipe": recipe})
    alone, grouped = tmp_path / "alone", tmp_path / "grouped"
    assert set(train([run], digits, alone).endings.values()) == {"done"}
    pack = Pack("test", (run,)).file(grouped, digits)
    outcome = train_pack(pack, Surroundings(reporter=Lines), crew)
    assert set(outcome.endings.values()) == {"done"}, outcome
    if device == "cpu":
        assert numbers(grouped, run) == numbers(alone, run)
        return
    first, second = (
        [sum(record["losses"].values()) for record in RunDir(root, run.key).read_records()]
        for root in (alone, grouped)
    )
    assert first == pytest.approx(second, rel=1e-4)
