"""A frozen teacher's pass with its batch norms folded into convolutions, beside the plain one.

python -m perf.folding [NETWORK ...] [--rounds 9]
"""

from __future__ import annotations

import torch

from perf.formats import BATCH, begin, make_network, seconds
from perf.interleaved import middle

NETWORKS = ("resnet56", "resnet32x4", "resnet50", "wrn_40_2", "vgg13")
SHAPE = (3, 32, 32)


def measure(name: str, precision: str, rounds: int) -> str:
    """Return how many times as fast the folded pass is."""
    networks = [make_network(name, precision, channels_last=True) for _ in range(2)]
    for network in networks:
        network.model.eval()
    networks[1].fold(SHAPE)
    images = networks[0].layout(torch.randn(BATCH, *SHAPE))
    ratios = []
    with torch.no_grad():
        for number in range(rounds + 1):  # the first warms up
            plain, folded = (seconds(lambda n=n: n.features(images)) for n in networks)
            ratios += [plain / folded] if number else []
    return middle(ratios)


def main() -> None:
    options = begin(__doc__, NETWORKS)
    print("\n| teacher | fp32 | bf16 |\n|---|---|---|")
    for name in options.networks:
        found = [measure(name, precision, options.rounds) for precision in ("fp32", "bf16")]
        print(f"| {name} | {' | '.join(found)} |", flush=True)


if __name__ == "__main__":
    main()
