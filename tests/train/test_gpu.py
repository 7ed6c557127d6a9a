"""On a GPU: channels-last and bfloat16 steps, transformers with several heads, memory, NCCL."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark.planning.matrix import Context, make_plan
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.table.load import load_table
from benchmark.table.selection import parse_selection
from tests.helpers import SHORT, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]

TABLE = """\
schema: 1
name: gpu
source: {paper: none}
dataset: digits
recipe: digits_60
recipe_overrides: {input_size: 32}
teacher: {from: train, seed: fixed}
seeds: [0]
columns:
  - {teacher: resnet8, student: resnet8}
rows:
  - {name: Teacher, of: teacher}
  - {name: KD, methods: [kd]}
  - {name: DeiT, student: projector_deit_tiny, methods: [deit]}
  - {name: Patches, student: projector_deit_tiny, methods: [projector_deit]}
  - {name: Advised, teacher: resnet8_rednet26, student: civt_tiny, methods: [coadvise]}
"""


def runs_on(device: str, folder: Path, data: Path, *sets: str) -> list[Run]:
    table = folder / "gpu.yaml"
    table.write_text(TABLE)
    selection = parse_selection([], None, [*SHORT, *sets])
    return list(make_plan(load_table(str(table)), selection, Context(data, device)).runs)


def losses(run: Run, runs_dir: Path) -> list[float]:
    records = RunDir(runs_dir, run.key).read_records()
    return [sum(record["losses"].values()) for record in records]


@pytest.mark.parametrize("channels_last", ["false", "true"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_a_gpu_trains_is_what_a_cpu_trains(
    precision: str, channels_last: str, tmp_path: Path, digits: Path
) -> None:
    """To the accuracy of the precision, in the first epoch: later ones drift apart."""
    sets = (f"recipe.precision={precision}", f"recipe.channels_last={channels_last}")
    found = {}
    for device in ("cpu", "cuda"):
        for run in runs_on(device, tmp_path, digits, *sets):
            outcome = train([run], digits, tmp_path / device)
            assert set(outcome.endings.values()) == {"done"}, outcome
            found[run.slug, device] = losses(run, tmp_path / device)[0]
    tolerance = 0.02 if precision == "fp32" else 0.1
    for (slug, device), loss in found.items():
        assert loss == pytest.approx(found[slug, "cpu"], rel=tolerance), (slug, device)


def test_the_devices_memory_is_used_and_given_back(tmp_path: Path, digits: Path) -> None:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    (run, *_) = runs_on("cuda", tmp_path, digits)
    train([run], digits, tmp_path / "runs")
    assert torch.cuda.max_memory_allocated() > before
    assert torch.cuda.memory_allocated() < before + 2**26


def test_one_process_of_nccl_adds_nothing(tmp_path: Path) -> None:
    import torch.distributed as dist

    dist.init_process_group(
        "nccl", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1
    )
    try:
        value = torch.randn(1000, device="cuda")
        summed = value.clone()
        dist.all_reduce(summed)
        assert torch.equal(summed, value)
    finally:
        dist.destroy_process_group()
