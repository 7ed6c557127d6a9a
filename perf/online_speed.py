"""What networks trained together cost: steps beside the plain student's, all in one run.

    python -m perf.online_speed [--rounds 9] [--pack]

Batch 64 of 32x32 images (scikit-learn's digits, enlarged; no data is read while it is timed), 100
classes, one thread, fp32. A step of every contender and one of its plain student take turns; what
counts is the processor time of the one thread, so that others on the machine cost nobody much. A
method's further views are the batch itself, ready made: reading and augmenting are no step's. The
last row (``--pack``: it alone) trains four runs one after the other, as one pack, and one after the
other again, by the real loop.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from benchmark.conformance.images import digit_images
from benchmark.conformance.lab import Lab, method_ref
from benchmark.conformance.pairs import Pair
from benchmark.run.identity import MethodRef
from benchmark.train.memory import keep_freed_memory
from perf.interleaved import middle
from perf.train_speed import conditions

BATCH, CLASSES, SAMPLES = 64, 100, 50_000
# Name: network, method with its options, and the bound that it has to keep, in plain steps.
ROWS: dict[str, tuple[str, MethodRef, float | None]] = {
    "DML, two networks": ("resnet32", method_ref("dml"), 2.1),
    "KDCL, two networks": ("resnet32", method_ref("kdcl"), 2.1),
    "AFD, two networks": ("resnet32", method_ref("afd"), None),
    "OKDDip, four branches": ("resnet32", method_ref("okddip"), 2.0),
    "ONE, three branches": ("resnet32", method_ref("one"), None),
    "PCL, three branches on three views": ("resnet32", method_ref("pcl"), None),
    "BYOT on ResNet-18": ("resnet18", method_ref("byot"), 1.6),
}
PACK = ("dml", "okddip", "one", "byot")


def lab_of(network: str, images: int = BATCH) -> Lab:
    return Lab(Pair(network, network), digit_images(images, 32, BATCH, SAMPLES, CLASSES))


def stepper(lab: Lab, methods: Sequence[MethodRef]) -> Callable[[], None]:
    trainee, batch = lab.start(lab.run(methods)), lab.batch()
    further = dict.fromkeys(trainee.companions, batch)
    return partial(trainee.train_step, batch, None, further)


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def step_costs(rounds: int) -> dict[str, list[float]]:
    labs = {network: lab_of(network) for network, _, _ in ROWS.values()}
    plain = {network: stepper(lab, ()) for network, lab in labs.items()}
    works = {name: stepper(labs[net], [ref]) for name, (net, ref, _) in ROWS.items()}
    for work in (*plain.values(), *works.values()):
        work()
    found: dict[str, list[float]] = {name: [] for name in ROWS}
    for _ in range(rounds):
        for name, (network, _, _) in ROWS.items():
            alone = seconds(plain[network])
            together = seconds(works[name])
            found[name].append(together / ((alone + seconds(plain[network])) / 2))
    return found


def pack_costs(rounds: int) -> list[float]:
    lab = lab_of("resnet8", images=2 * BATCH)

    def train(groups: Sequence[Sequence[str]]) -> None:
        for group in groups:
            lab.train([lab.start(lab.run([method_ref(name)])) for name in group])

    train([PACK])
    alone = partial(train, [[name] for name in PACK])
    ratios = []
    for _ in range(rounds):
        before = seconds(alone)
        together = seconds(partial(train, [PACK]))
        ratios.append(together / ((before + seconds(alone)) / 2))
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pack", action="store_true", help="the last row alone")
    asked = parser.parse_args()
    rounds = asked.rounds
    torch.set_num_threads(1)
    keep_freed_memory()  # as a training process does
    print(conditions(rounds))
    print("\n| row | to the plain student's step | bound |\n|---|---|---|")
    for name, ratios in ({} if asked.pack else step_costs(rounds)).items():
        bound = ROWS[name][2]
        print(f"| {name} | {middle(ratios)} | {'' if bound is None else bound} |", flush=True)
    packed = middle(pack_costs(rounds))
    print(f"| a pack of {', '.join(PACK)}, to the four alone | {packed} | 1.0 |")


if __name__ == "__main__":
    main()
