"""In which order the packs of this machine's queue start: those first that end last.

A short pack can fill the end of a night, a long one that starts last leaves all other CPUs idle.
No number depends on the order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmark.planning.device_estimate import fill_cost
from benchmark.planning.estimate import read_history
from benchmark.planning.packs import Pack
from benchmark.submission.submission import Submission


def by_length(submission: Submission) -> list[tuple[int, Pack]]:
    """Return the packs of a submission with their numbers, in the order in which they start."""
    history = read_history(submission.runs_dir, submission.data_dir)
    hours = {
        pack.id: fill_cost(history, pack, submission.data_dir).hours
        if pack.fills
        else history.cost(pack.runs).hours
        for pack in submission.packs
    }
    packs = submission.packs
    return [(number, packs[number]) for number in longest_first(packs, hours)]


def longest_first(packs: Sequence[Pack], hours: Mapping[str, float]) -> list[int]:
    """Return the places of packs by their hours and those of what waits for them, most first.

    Packs come after those that they depend on in ``packs``, as :func:`make_packs` gives them.
    """
    waiting: dict[str, float] = {}  # by the pack waited for, what takes longest after it
    chains: list[float] = []
    for pack in reversed(packs):
        chain = hours[pack.id] + waiting.get(pack.id, 0.0)
        chains.append(chain)
        for name in pack.depends:
            waiting[name] = max(chain, waiting.get(name, 0.0))
    return sorted(range(len(packs)), key=lambda place: -chains[-1 - place])
