"""What keeping a teacher's answers saves: one KD cell without, filling, and with all of them kept.

    python -m perf.teacher_answers FOLDER [--rounds 7]

FOLDER holds CIFAR-100's official pickles (or a subset of them). The three take turns, as in
perf/train_speed.py; "filled" trains the very steps that a process before it was shown, so that
its teacher is asked nothing but the proof.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import tempfile
from functools import partial
from pathlib import Path

from benchmark.data.write import write_dataset
from perf.interleaved import WARM_UP, Contender, Pause, interleave, middle, ratios
from perf.plain_loop import BATCH_SIZE
from perf.standin import with_teacher
from perf.train_speed import SPEED_TABLE, conditions, plan_runs, train_ours

KINDS = ("asked every time", "filling", "filled")


def train(kind: str, column: str, precision: str, work: Path, pause: Pause) -> None:
    os.environ["BENCH_TEACHER_ANSWERS"] = "off" if kind == KINDS[0] else "16G"
    planned = plan_runs(str(SPEED_TABLE), column, precision, work / "data")[:1]
    train_ours(with_teacher(planned, work / "data", work / kind), work / "data", work / kind, pause)


def fill(column: str, precision: str, work: Path, steps: int) -> None:
    """Train so many steps, and leave of them what the teacher answered."""
    left = [steps]

    def pause() -> bool:
        left[0] -= 1
        return left[0] > 0

    train(KINDS[2], column, precision, work, pause)


def measure(work: Path, column: str, precision: str, rounds: int, steps: int) -> None:
    """Print the three rows of one column."""
    shown = WARM_UP + (rounds + 1) * steps + 1
    before = multiprocessing.get_context("spawn").Process(
        target=fill, args=(column, precision, work, shown)
    )
    before.start()
    before.join()
    for left in (work / KINDS[2]).glob("cifar100-*"):  # all but the answers
        shutil.rmtree(left)
    contenders = {
        kind: Contender(partial(train, kind, column, precision, work), BATCH_SIZE, steps)
        for kind in KINDS
    }
    interleave(contenders, rounds)
    for contender in contenders.values():
        contender.close()
    for kind, found in contenders.items():
        rate, ratio = statistics.median(found.rates), middle(ratios(found, contenders[KINDS[0]]))
        print(f"| {column} | {precision} | {kind} | {rate:,.0f} | {ratio} | {found.peak_mb:,.0f} |")
    for kind in KINDS:
        shutil.rmtree(work / kind)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="cifar-100-python")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4, help="in every round")
    options = parser.parse_args()
    print(conditions(options.rounds))
    print("\n| column | precision | teacher | images/s | to asked every time | peak MB |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_dataset("cifar100", options.folder, work / "data", allow_altered=True)
        for column, precision in (
            ("resnet32x4-resnet8x4", "fp32"),
            ("resnet32x4-resnet8x4", "bf16"),
            ("resnet50-mobilenetv2", "fp32"),
        ):
            measure(work, column, precision, options.rounds, options.steps)


if __name__ == "__main__":
    main()
