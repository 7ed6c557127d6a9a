"""What keeping a teacher's answers saves: one KD cell without, filling, and with all of them kept.

    python -m perf.teacher_answers FOLDER [--rounds 7] [--pack | --plain] [--reference CHECKOUT]

FOLDER holds CIFAR-100's official pickles (or a subset of them). The three take turns, as in
perf/train_speed.py; "filled" trains the very steps that a process before it was shown, so that
its teacher is asked nothing but the proof. ``--pack``: packs of KD, DKD, DHKD, RKD and PKT, which
read logits and pooled features. ``--plain``: the first cell alone, beside perf/plain_loop.py, whose
workers' seconds are not counted; with ``--reference`` beside perf/reference_loop.py, too. With
``--threads 1`` processor seconds count, which other work on the machine hardly moves (set
OMP_NUM_THREADS=1 for the other loops).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmark.data.write import write_dataset
from perf.interleaved import WARM_UP, Contender, Pause, interleave, middle, ratios
from perf.plain_loop import BATCH_SIZE
from perf.reference_loop import train_reference
from perf.standin import with_teacher
from perf.train_speed import SPEED_TABLE, conditions, plan_runs, train_ours, train_plain

KINDS = ("asked every time", "filling", "filled")
CELLS = (
    ("resnet32x4-resnet8x4", "fp32"),
    ("resnet32x4-resnet8x4", "bf16"),
    ("resnet50-mobilenetv2", "fp32"),
)
CELL, PACK = ("kd",), ("kd", "dkd", "dhkd", "rkd", "pkt")


class What(NamedTuple):
    """What is trained: a column's rows of these methods."""

    column: str
    precision: str
    methods: tuple[str, ...]
    threads: int


def train(kind: str, what: What, work: Path, pause: Pause) -> None:
    os.environ["BENCH_TEACHER_ANSWERS"] = "off" if kind == KINDS[0] else "16G"
    found = plan_runs(str(SPEED_TABLE), what.column, what.precision, work / "data")
    planned = [
        run.model_copy(update={"recipe": run.recipe.model_copy(update={"threads": what.threads})})
        for run in found
        if run.methods[0].name in what.methods
    ]
    train_ours(with_teacher(planned, work / "data", work / kind), work / "data", work / kind, pause)


def fill(what: What, work: Path, steps: int) -> None:
    """Train so many steps, and leave of them what the teacher answered."""
    left = [steps]

    def pause() -> bool:
        left[0] -= 1
        return left[0] > 0

    train(KINDS[2], what, work, pause)


def measure(
    work: Path,
    what: What,
    rounds: int,
    steps: int,
    folder: Path | None = None,
    checkout: Path | None = None,
) -> None:
    """Print the three rows of one column, and the other loops' on ``folder``."""
    shown = WARM_UP + (rounds + 1) * steps + 1
    before = multiprocessing.get_context("spawn").Process(target=fill, args=(what, work, shown))
    before.start()
    before.join()
    for left in (work / KINDS[2]).glob("cifar100-*"):  # all but the answers
        shutil.rmtree(left)
    clock = time.process_time if what.threads == 1 else time.perf_counter
    images = BATCH_SIZE * len(what.methods)
    contenders = {
        kind: Contender(partial(train, kind, what, work), images, steps, clock) for kind in KINDS
    }
    if folder is not None:
        loop = partial(train_plain, folder, *what.column.split("-"))
        contenders["plain loop"] = Contender(loop, images, steps, clock)
    if folder is not None and checkout is not None:
        loop = partial(train_reference, checkout, folder, *what.column.split("-"))
        contenders["public reference loop"] = Contender(loop, images, steps, clock)
    interleave(contenders, rounds)
    for contender in contenders.values():
        contender.close()
    name = f"{what.column}, {len(what.methods)} methods | {what.precision}"
    for kind, found in contenders.items():
        rate, ratio = statistics.median(found.rates), middle(ratios(found, contenders[KINDS[0]]))
        print(f"| {name} | {kind} | {rate:,.0f} | {ratio} | {found.peak_mb:,.0f} |", flush=True)
    for kind in KINDS:
        shutil.rmtree(work / kind)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="cifar-100-python")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4, help="in every round")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--pack", action="store_true")
    which.add_argument("--plain", action="store_true")
    parser.add_argument("--reference", type=Path, help="a checkout of mdistiller, at a08d46f")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    print(conditions(options.rounds))
    print(
        "\n| column | precision | teacher | images x methods / s | to asked every time | peak MB |"
    )
    print("|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_dataset("cifar100", options.folder, work / "data", allow_altered=True)
        beside = options.plain or options.reference is not None
        for column, precision in CELLS[:1] if options.pack or beside else CELLS:
            methods = PACK if options.pack else CELL
            what = What(column, precision, methods, options.threads)
            others = (options.folder if beside else None, options.reference)
            measure(work, what, options.rounds, options.steps, *others)


if __name__ == "__main__":
    main()
