"""Every network reads the images at its own size: teachers beside upscaled students."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark.data.open import open_batches
from benchmark.models import build_model
from benchmark.models.parts import Tail
from benchmark.planning.matrix import Context, Plan, make_plan
from benchmark.run.directory import RunDir
from benchmark.table.load import load_table
from benchmark.table.recipe import named_recipe, override
from benchmark.table.selection import parse_selection
from benchmark.train.evaluate import evaluate
from benchmark.train.network import Network
from benchmark.train.teacher import load_teacher
from tests.helpers import SHORT, numbers, train, train_plan

TABLE = """\
schema: 1
name: upscaled
source: {paper: none}
dataset: digits
recipe: digits_60
teacher: {from: train, seed: same}
seeds: [0]
columns:
  - {teacher: wrn_16_2, student: resnet8, name: upscaled, recipe: {input_size: 16}}
rows:
  - {name: Teacher, of: teacher}
  - {name: KD, methods: [kd]}
  - {name: Copied, methods: [ofd]}
"""


def upscaled(folder: Path, data: Path) -> Plan:
    path = folder / "upscaled.yaml"
    path.write_text(TABLE)
    chosen = parse_selection([], "0", SHORT)
    return make_plan(load_table(str(path)), chosen, Context(data, "cpu"))


@pytest.fixture(scope="module")
def trained(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plan]:
    runs_dir = tmp_path_factory.mktemp("upscaled")
    plan = upscaled(runs_dir, digits)
    train_plan(plan, digits, runs_dir)
    return runs_dir, plan


def test_a_teacher_answers_as_its_row_says(trained: tuple[Path, Plan], digits: Path) -> None:
    runs_dir, plan = trained
    (teacher,) = plan.teachers
    taught = next(run for run in plan.runs if run.teacher)
    network = load_teacher(taught, 10, runs_dir).network
    batches = open_batches("digits", digits, seed=0, batch_size=20, augmentation="none")
    (found,) = evaluate([lambda x: network.features(x).logits], batches.test(500))
    result = RunDir(runs_dir, teacher.key).read_result()
    assert found.top1 == result["metrics"]["top1"]["last"]
    assert network.features(torch.zeros(2, 3, 8, 8)).stages[0].shape[-1] == 8


@pytest.mark.slow
def test_students_of_one_pack_train_as_alone(
    trained: tuple[Path, Plan], digits: Path, tmp_path: Path
) -> None:
    runs_dir, plan = trained
    students = [run for run in plan.runs if run.teacher]
    assert [m.name for run in students for m in run.methods] == ["kd", "ofd"]
    (teacher,) = plan.teachers
    for run in students:
        alone = tmp_path / run.key
        alone.mkdir()
        (alone / teacher.key).symlink_to(runs_dir / teacher.key)
        assert train([run], digits, alone).endings == {run.key: "done"}
        assert numbers(alone, run) == numbers(runs_dir, run)


def test_maps_of_a_stage_keep_their_size_where_images_are_enlarged() -> None:
    torch.manual_seed(0)
    recipe = override(named_recipe("digits_60"), {"input_size": 32, "device": "cpu"})
    network = Network("resnet8", build_model("resnet8", 10).eval(), recipe, 32)
    maps = network.features(torch.randn(2, 3, 8, 8)).stages[2]
    assert maps.shape[2:] == (16, 16)
    tail = Tail(build_model("resnet8", 10), 2, maps.detach()).eval()
    seen = network.run(tail, maps)
    assert seen.stages[0].shape == maps.shape
    assert torch.equal(seen.logits, tail.features(maps).logits)
