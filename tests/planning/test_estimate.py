"""What a run is estimated to take before anything like it was trained here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.base.speed import Form, Speed, known_speed, remember
from benchmark.data.datasets import DATASETS
from benchmark.methods.catalog import method_info
from benchmark.planning.device_estimate import estimate, usual_resources
from benchmark.planning.estimate import History, read_history
from benchmark.planning.matrix import Context, make_plan
from benchmark.planning.modelled import Modelled
from benchmark.planning.operations import counted_work
from benchmark.planning.packs import Pack
from benchmark.planning.rates import bf16_gain, cpu_rates, gpu_rates
from benchmark.run.identity import DatasetRef, Run
from benchmark.table.load import load_table
from benchmark.table.selection import parse_selection
from tests.cli.command import bench
from tests.planning.test_pack_size import finish

IMAGES = DATASETS["cifar100"].num_train


def runs_of(column: str, *sets: str, row: str = "KD") -> list[Run]:
    chosen = parse_selection([f"column={column}", f"row={row}"], "0", sets)
    plan = make_plan(load_table("cifar100"), chosen, Context(Path("nowhere"), "cpu"))
    return [run for run in plan.runs if run.teacher is not None]


def test_hours_follow_what_is_counted() -> None:
    (run,) = runs_of("resnet32x4-resnet8x4")
    cost = History({}).cost([run])
    model = Modelled(run, IMAGES)
    epoch = model.epoch()
    assert cost.hours == pytest.approx(run.recipe.epochs * sum(epoch) / 3600)
    assert cost.low == pytest.approx(cost.hours / model.spread)
    assert cost.high == pytest.approx(cost.hours * model.spread)
    # The teacher's pass is 139 of 207 billion operations a step, and takes most of the time.
    assert 1.2 < epoch.teacher / epoch.student < 2.2
    assert "counted operations" in cost.source


def test_other_rows_cost_what_their_methods_add() -> None:
    plain, heavy = runs_of("resnet32x4-resnet8x4"), runs_of("resnet32x4-resnet8x4", row="ReviewKD")
    seconds = [Modelled(run, IMAGES).epoch().student for (run,) in (plain, heavy)]
    assert 2.5 < seconds[1] / seconds[0] < 6  # measured: 4.8, of a plain student's step


def test_half_the_images_take_half_the_time() -> None:
    (run,) = runs_of("vgg13-vgg8")
    small = run.model_copy(update={"dataset": DatasetRef(name="cifar100", digest="a half")})
    history = History({}, {"a half": IMAGES / 2})
    assert history.cost([small]).hours == pytest.approx(history.cost([run]).hours / 2, rel=0.01)


def test_a_measured_run_is_a_measure_of_other_sizes_of_its_data(tmp_path: Path) -> None:
    (run,) = runs_of("vgg13-vgg8")
    small = run.model_copy(update={"dataset": DatasetRef(name="cifar100", digest="a tenth")})
    finish(tmp_path, small, 240.0, 1, 500, teacher_seconds=120.0, images=IMAGES / 10)
    cost = read_history(tmp_path).cost([run])
    assert cost.measured == 1
    assert cost.hours == pytest.approx(10 * 240 / 3600, rel=0.01)
    assert read_history(tmp_path).cost([small]).hours == pytest.approx(240 / 3600, rel=0.01)


def test_what_one_network_took_is_a_measure_of_the_others(tmp_path: Path) -> None:
    (seen,), (other,) = runs_of("vgg13-vgg8"), runs_of("resnet56-resnet20")
    slow = 3.0
    student, teacher = (slow * seen.recipe.epochs * part for part in Modelled(seen, IMAGES).epoch())
    finish(tmp_path, seen, student + teacher, 1, 500, teacher_seconds=teacher, images=IMAGES)
    guess, cost = History({}).cost([other]), read_history(tmp_path).cost([other])
    assert cost.measured == 0
    assert cost.hours == pytest.approx(slow * guess.hours, rel=0.02)
    assert cost.source == "counted operations and what other networks took here"
    bf16 = other.recipe.model_copy(update={"precision": "bf16"})
    elsewise = other.model_copy(update={"recipe": bf16})
    found, alone = read_history(tmp_path).cost([elsewise]), History({}).cost([elsewise])
    assert found.hours == alone.hours  # another precision is another pace


def test_every_network_of_the_table_was_counted() -> None:
    table, known = load_table("cifar100"), counted_work()
    for column in table.columns:
        for name in (column.teacher, column.student):
            assert known.network(name, 32).exact, name
    for use in {use.name for row in table.rows for use in row.methods}:
        version = method_info(use).version
        assert known.method(use, version, "resnet32x4-resnet8x4").counts is not None, use
        other = known.method(use, version, "of-others")
        assert (other.counts, other.exact) == (None, False)
        assert other.share >= 0


def test_what_was_not_counted_widens_the_range() -> None:
    (run,) = runs_of("resnet32x4-resnet8x4")
    method = run.methods[0].model_copy(update={"name": "mine", "version": "0123"})
    unknown = Modelled(run.model_copy(update={"methods": (method,)}), IMAGES)
    assert unknown.spread > Modelled(run, IMAGES).spread
    other = Modelled(run.model_copy(update={"model": "timm:never_counted"}), IMAGES)
    assert other.spread > Modelled(run, IMAGES).spread
    assert other.epoch().student > 0


def test_gpus_are_known_by_their_data_sheets() -> None:
    known, unknown = gpu_rates("fp32", "NVIDIA A100-SXM4-40GB"), gpu_rates("fp32", "Voodoo 2")
    assert "A100" in known.source
    assert "not known" in unknown.source
    assert unknown.spread > known.spread > cpu_rates("fp32", 2, "AuthenticAMD 25/17").spread
    assert (
        gpu_rates("bf16", "RTX 3090").operations > gpu_rates("fp32", "GeForce RTX 3090").operations
    )


# Training images/s on one RTX 3090 in mixed precision, channels_last, at 224 pixels, nothing read:
# timm, results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv.
PUBLISHED = {
    "tv_resnet18": (512, 3482),
    "tv_resnet34": (512, 2038),
    "tv_resnet50": (512, 1219),
    "timm:deit_tiny_patch16_224": (512, 2290),
    "timm:deit_tiny_distilled_patch16_224": (512, 2249),
    "timm:deit_small_patch16_224": (384, 1051),
    "timm:deit_small_distilled_patch16_224": (384, 1029),
    "timm:resnetv2_152x2_bit": (32, 89),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_gpus_estimate_is_what_others_measured(name: str) -> None:
    batch, images_per_second = PUBLISHED[name]
    counted = counted_work().network(name, 224)
    assert counted.exact
    found = batch / gpu_rates("bf16", "NVIDIA GeForce RTX 3090").seconds(counted.step.on(batch))
    assert 1 / 1.5 < found / images_per_second < 1.5


def test_a_pairs_estimate_holds_a_rate_that_others_logged() -> None:
    """torchdistill's SRD run, ResNet-34 to ResNet-18 in float32: 960 images/s, no card named."""
    student, teacher = (counted_work().network(f"tv_resnet{n}", 224) for n in (18, 34))
    rates = gpu_rates("fp32")
    seconds = rates.seconds(student.step.on(256) + teacher.forward.on(256))
    assert 256 / seconds / rates.spread < 960 < 256 / seconds * rates.spread


@pytest.mark.parametrize("table", ["imagenet", "imagenet-projector", "deit"])
def test_every_network_of_imagenets_tables_was_counted(table: str) -> None:
    chosen = parse_selection([], "0", [])
    plan = make_plan(load_table(table), chosen, Context(Path("nowhere"), "cuda"))
    for run in (*plan.runs, *plan.teachers):
        for name in {run.model, run.teacher.model if run.teacher else run.model}:
            assert counted_work().network(name, 224).exact, name


def test_a_cpu_that_is_slower_in_bfloat16_is_known() -> None:
    (run,) = runs_of("resnet32x4-resnet8x4")
    for kind, slower in (("GenuineIntel 6/207", True), ("AuthenticAMD 25/17", False)):
        fp32, bf16 = (cpu_rates(precision, 2, kind) for precision in ("fp32", "bf16"))
        works = Modelled(run, IMAGES).works()
        assert (sum(map(bf16.seconds, works)) > sum(map(fp32.seconds, works))) == slower


@pytest.fixture
def slow_bf16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which bench doctor found float32 to be the faster."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    remember(Speed({Form.CHANNELS_LAST: 0.5, Form.BF16: 0.8, Form.TWO_THREADS: 0.3}))
    yield
    known_speed.cache_clear()


@pytest.mark.usefixtures("slow_bf16")
def test_what_doctor_measured_decides(tmp_path: Path, digits: Path) -> None:
    step = counted_work().network("resnet8x4", 32).step.on(16)
    found = [cpu_rates(*how).seconds(step) for how in (("fp32", 1), ("fp32", 2), ("bf16", 1))]
    assert found == pytest.approx([0.5, 0.3, 0.8])
    assert "bench doctor measured" in cpu_rates("fp32", 2).source
    assert bf16_gain() == pytest.approx(0.5 / 0.8)
    words = ["--table", "digits", "--seeds", "0", "--runs", tmp_path, "--data", digits]
    slow = bench("plan", *words, "--set", "recipe.precision=bf16").out
    assert "WARNING: bfloat16 takes 1.6 times as long as float32 on this CPU" in slow
    assert "bfloat16" not in bench("plan", *words).out
    sent = bench(
        "submit", *words, "--set", "recipe.precision=bf16", "--dry-run", "--cluster", "local"
    )
    assert sent.code == 0, sent.err
    assert sent.err.count("WARNING: bfloat16 takes 1.6 times as long") == 1


@pytest.mark.parametrize("content", ["", "[]", '{"schema": 1}', '{"schema": 1, "about": {}}'])
def test_a_damaged_memory_is_none(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remember(Speed({Form.CHANNELS_LAST: 0.5}))
    assert known_speed() is not None
    (tmp_path / "kd-benchmark" / "speed.json").write_text(content)
    known_speed.cache_clear()
    assert known_speed() is None
    known_speed.cache_clear()


def test_memory_grows_with_a_pack_and_its_batch() -> None:
    (run,), (heavy,) = runs_of("resnet32x4-resnet8x4"), runs_of("resnet32x4-resnet8x4", row="CRD")
    one = History({}).cost([run]).memory_mb
    assert 500 < one < 2000
    assert History({}).cost([run, heavy]).memory_mb > one
    larger = run.recipe.model_copy(update={"batch_size": 512})
    assert History({}).cost([run.model_copy(update={"recipe": larger})]).memory_mb > one


def test_the_range_of_packs_is_that_of_their_sum(tmp_path: Path) -> None:
    packs = [Pack("cifar100", tuple(runs_of(c))) for c in ("vgg13-vgg8", "resnet56-resnet20")]
    found = estimate(packs, usual_resources(packs), tmp_path)
    hours = sum(History({}).cost(pack.runs).hours for pack in packs)
    assert found.cpu_hours == pytest.approx(2 * hours)
    assert found.low < 1 < found.high
    assert f"({found.to_json()['range'][0]:.0f} hours to " in found.words()


def test_a_plan_says_what_it_will_cost(tmp_path: Path, digits: Path) -> None:
    words = ["plan", "--table", "digits", "--runs", tmp_path, "--data", digits]
    said = bench(*words)
    assert said.code == 0, said.err
    assert " CPU-minutes (" in said.out
    assert "GB of memory a task" in said.out
