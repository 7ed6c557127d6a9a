"""ResNet-34 to ResNet-18 on photographs: a pack of eight methods beside the plain loop, per method.

    python -m perf.imagenet_speed FOLDER [--rounds 5] [--side 224]

The JPEG files below FOLDER (any layout), so many that no epoch ends meanwhile. The plain loop is
mdistiller's way: PIL transforms, a DataLoader with as many workers as CPUs, one student a process,
the teacher's pass in every step, torch's default threads (``perf/plain_loop.py``). Ours is
``train_pack``, one cell and a pack of the eight methods of ``perf/imagenet.yaml``. Batch 32,
float32. They take turns, a step at a time; ratios are medians of the ratios within rounds. A round
takes about half a minute on two cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from functools import partial
from pathlib import Path

from torch.utils.data import DataLoader

from benchmark.data.write import write_dataset
from benchmark.models import build_model
from benchmark.run.identity import Run
from benchmark.table.recipe import override
from perf.interleaved import WARM_UP, Contender, Pause, interleave, middle, ratios
from perf.plain_loop import distilled
from perf.readers import linked, ordinary_photographs
from perf.standin import with_teacher
from perf.train_speed import conditions, plan_runs, train_ours

TABLE = Path(__file__).parent / "imagenet.yaml"
COLUMN = "tv_resnet34-tv_resnet18"
BATCH, CLASSES = 32, 10


def train_plain(source: Path, side: int, pause: Pause) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = ordinary_photographs(linked(source, Path(folder)), side)
        workers = os.cpu_count() or 1
        loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, drop_last=True)
        networks = (build_model(name, CLASSES) for name in COLUMN.split("-"))
        for _ in distilled(loader, *networks):
            if not pause():
                return


def sized(run: Run, side: int) -> Run:
    """Return a run on images of another size."""
    return run.model_copy(update={"recipe": override(run.recipe, {"crop_size": side})})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int, default=224, help="of the images, in pixels")
    options = parser.parse_args()
    print(f"{conditions(options.rounds)}; here batches of {BATCH}, {options.side} pixels")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        enough = (options.rounds + WARM_UP + 1) * BATCH
        if len(linked(options.folder, data)) < enough:
            raise SystemExit(f"{options.rounds} rounds need {enough} photographs")
        write_dataset("imagenette", data / "images", data, allow_altered=True)
        runs = [sized(run, options.side) for run in plan_runs(str(TABLE), COLUMN, "fp32", data)]
        plain_loop = partial(train_plain, options.folder, options.side)
        contenders = {"plain loop, KD": Contender(plain_loop, BATCH, 1)}
        for name, own in (("one cell, KD", runs[:1]), (f"pack of {len(runs)}", runs)):
            runs_dir = Path(folder) / f"runs{len(contenders)}"
            taught = with_teacher(own, data, runs_dir)
            loop = partial(train_ours, taught, data, runs_dir)
            contenders[name] = Contender(loop, BATCH * len(own), 1)
        interleave(contenders, options.rounds)
        for contender in contenders.values():
            contender.close()
    plain = contenders["plain loop, KD"]
    print("| loop | images x methods / s | to the plain loop | peak MB |\n|---|---|---|---|")
    for name, found in contenders.items():
        rate = f"{statistics.median(found.rates):,.1f}"
        print(f"| {name} | {rate} | {middle(ratios(found, plain))} | {found.peak_mb:,.0f} |")


if __name__ == "__main__":
    main()
