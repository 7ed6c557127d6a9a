"""Wrong settings of ImageNet's recipes and networks: one line and exit code 2, nothing queued."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import bench
from tests.cli.test_errors import refused

SMALL = ("recipe.epochs=1", "recipe.batch_size=20", "recipe.holdout=0", "recipe.threads=1")


@pytest.fixture(autouse=True)
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_photographs: Path) -> Path:
    """Commands run in an empty folder, with ten classes of ImageNet as their data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_DATA", str(few_photographs))
    monkeypatch.setenv("BENCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("BENCH_TEACHERS", str(tmp_path / "teachers"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return few_photographs


def asked(table: str, row: str, *sets: str) -> list[str]:
    words = ["submit", "--table", table, "--only", f"row={row}", "--cluster", "inline"]
    given = {value.split("=")[0]: value for value in (*SMALL, *sets)}
    return [*words, *(word for value in given.values() for word in ("--set", value))]


@pytest.mark.parametrize(
    ("row", "sets", "message"),
    [
        ("DeiT-Ti", ["recipe.batch_size=15"], "batch_size 15 must be even"),
        ("DeiT-Ti", ["recipe.drop_last=false"], "set drop_last, or the last batch may be odd"),
        ("DeiT-Ti", ["recipe.optimizer=lamb"], "optimizer lamb needs lamb.max_grad_norm"),
        ("DeiT-Ti", ["recipe.lamb.trust_clip=true"], "lamb.max_grad_norm"),
        ("DeiT-Ti", ["recipe.drop_path=1.5"], "drop_path: Input should be less than 1"),
        ("ResNet-50", ["recipe.drop_path=0.1"], "'tv_resnet50' has no stochastic depth"),
        ("DeiT-Ti", ["recipe.mix.mixup=0", "recipe.mix.cutmix=0"], "neither mixup nor cutmix"),
        ("DeiT-Ti", ["recipe.augmentation=imagenet_tim"], "did you mean 'imagenet_timm'"),
        ("DeiT-Ti", ["recipe.crop_size=0"], "crop_size: Input should be greater than"),
        ("DeiT-Ti", ["recipe=deit_30"], "did you mean 'deit_300'"),
        ("DeiT-Ti", ["recipe.from=deit_30"], "did you mean 'deit_300'"),
        ("USKD (tiny)", ["method.uskd.gamma=1"], "unknown option of uskd 'gamma'"),
        ("DeiT-Ti distilled", ["method.deit.kind=medium"], "deit.kind"),
    ],
)
def test_settings_that_do_not_go_together(row: str, sets: list[str], message: str) -> None:
    refused(bench(*asked("deit", row, *sets)), message)
    assert not Path("runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "sets", "message"),
    [
        # 16 x 16 pixels are a patch: 72 is no whole number of them.
        (
            "Our Method (tiny)",
            ["recipe.crop_size=72", "recipe.schedule.warmup_epochs=0"],
            "cuts images into 16 x 16 pixels, not 72",
        ),
        ("DeiT-Ti", ["recipe.batch_size=200"], "a batch of 200 is larger than the 60 training"),
        ("DeiT-Ti", ["recipe.holdout=60"], "cannot hold out 60 of 60"),
    ],
)
def test_networks_and_data_that_do_not_fit(row: str, sets: list[str], message: str) -> None:
    refused(bench(*asked("deit", row, *sets)), message)
    runs = Path("runs")
    assert not runs.exists() or not [p for p in runs.iterdir() if not p.name.startswith(".")]


@pytest.mark.slow
def test_students_and_teachers_whose_heads_do_not_fit(tmp_path: Path) -> None:
    """Co-advising has a head for each teacher: CivT has two of them, this teacher is one."""
    table = tmp_path / "mine.yaml"
    table.write_text("""\
schema: 1
name: mine
base: deit
columns: [{name: small, teacher: tv_resnet18, student: civt_tiny}]
rows:
  - {name: One adviser, methods: [coadvise]}
  - {name: Two heads, student: civt_tiny, methods: [deit], recipe: {drop_path: 0.0}}
""")
    words = ["--only", "column=small", "--set", "recipe.crop_size=32"]
    ended = bench(*asked(str(table), "One adviser"), *words)
    refused(ended, "coadvise trains 2 heads here, and civt_tiny has 3 of its own")
    ended = bench(*asked(str(table), "Two heads"), *words)
    refused(ended, "deit trains 2 heads here, and civt_tiny has 3 of its own")


def test_a_teacher_of_another_size_is_refused_by_its_name(tmp_path: Path) -> None:
    table = tmp_path / "mine.yaml"
    table.write_text("""\
schema: 1
name: mine
base: deit
columns: [{name: small, teacher: civt_tiny, student: tv_resnet18}]
rows: [{name: KD, methods: [kd], recipe: {drop_path: 0.0}}]
""")
    words = ["--only", "column=small", "--set", "recipe.crop_size=40"]
    ended = bench(*asked(str(table), "KD"), *words)
    refused(ended, "civt_tiny", "16 x 16 pixels, not 40")
