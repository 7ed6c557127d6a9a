"""Which precision and memory format suits each network: the numbers behind ``crd_240_bf16``.

    python -m perf.formats [NETWORK ...] [--rounds 9]

Every network takes a forward pass without gradients (a teacher's share of a step) and a training
step (a student's), in float32 and in bfloat16 autocast, with contiguous and channels_last memory:
all in turn, in every round. Printed are images/s of the first form and the others' medians of
ratios to it, and the form to prefer: bfloat16 where it gains 5 % or more.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from benchmark.models import build_model
from benchmark.table.recipe import ModelSettings, named_recipe
from benchmark.train.memory import keep_freed_memory
from benchmark.train.network import Network
from benchmark.train.optimiser import build_optimizer
from perf.train_speed import conditions

NETWORKS = (
    *("resnet56", "resnet110", "resnet32x4", "resnet50", "wrn_40_2", "vgg13"),
    *("resnet20", "resnet32", "resnet8x4", "wrn_16_2", "wrn_40_1", "vgg8"),
    *("mobilenetv2", "shufflenetv1", "shufflenetv2"),
)
BATCH, GAIN = 64, 1.05
FORMS = tuple(itertools.product(("fp32", "bf16"), (False, True)))


def make_network(name: str, precision: str, channels_last: bool) -> Network:
    settings = ModelSettings.model_validate(
        {"precision": precision, "channels_last": channels_last}
    )
    update = {"device": "cpu", "per_model": {name: settings}}
    recipe = named_recipe("crd_240").model_copy(update=update)
    return Network(name, build_model(name, 100), recipe)


def passes(network: Network) -> dict[str, Callable[[], object]]:
    """Return a teacher's forward pass and a student's step, on the same images every time."""
    images = network.layout(torch.randn(BATCH, 3, 32, 32))
    labels = torch.randint(100, (BATCH,))
    recipe = named_recipe("crd_240")
    optimizer = build_optimizer(recipe, network.model.parameters())

    def forward() -> object:
        network.model.eval()
        with torch.no_grad():
            return network.features(images)

    def step() -> object:
        network.model.train()
        loss = F.cross_entropy(network.features(images).logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        return loss

    return {"forward": forward, "step": step}


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(name: str, rounds: int) -> dict[str, list[list[float]]]:
    """Return the seconds of every form, round by round, for forward passes and for steps."""
    work = [passes(make_network(name, *form)) for form in FORMS]
    found: dict[str, list[list[float]]] = {}
    for kind in ("forward", "step"):
        for one in work:
            one[kind]()
        found[kind] = [[seconds(one[kind]) for one in work] for _ in range(rounds)]
    return found


def begin(doc: str, networks: Sequence[str]) -> argparse.Namespace:
    """Read ``networks`` and ``rounds``, prepare the process as training does, say where it runs."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=networks)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(named_recipe("crd_240").threads)
    keep_freed_memory()
    print(conditions(options.rounds))
    return options


def main() -> None:
    options = begin(__doc__, NETWORKS)
    titles = [f"{p} {'channels_last' if c else 'contiguous'}" for p, c in FORMS]
    print(f"\n| network | pass | {' | '.join(titles)} | prefer |\n|{'---|' * 7}")
    for name in options.networks:
        for kind, rounds in measure(name, options.rounds).items():
            first = BATCH / statistics.median(r[0] for r in rounds)
            gains = [statistics.median(r[0] / r[i] for r in rounds) for i in range(len(FORMS))]
            best32, best16 = max(gains[:2]), max(gains[2:])
            chosen = gains.index(best16 if best16 >= GAIN * best32 else best32)
            cells = [f"{first:,.0f} images/s", *(f"{gain:.2f}x" for gain in gains[1:])]
            print(f"| {name} | {kind} | {' | '.join(cells)} | {titles[chosen]} |", flush=True)


if __name__ == "__main__":
    main()
