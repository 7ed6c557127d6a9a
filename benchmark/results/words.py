"""From what the cells show to words: one verdict a cell, spelt out if it is conditional."""

from __future__ import annotations

import numpy as np

from benchmark.results.evidence import Weighed
from benchmark.results.grid import GridCell, Verdict
from benchmark.results.tabulate import JudgedCell

SIDES = {1: Verdict.ABOVE, -1: Verdict.BELOW, 0: Verdict.UNDERPOWERED}


def hypothesis_word(shown: Weighed, i: int, reading: int, runs: int) -> Verdict:
    """Return what one hypothesis of a cell says alone."""
    if shown.within[i, reading, runs]:
        return Verdict.REPRODUCED
    return SIDES[int(shown.side[i, reading, runs])]


def cell_word(shown: Weighed, i: int) -> Verdict:
    """Return what a cell says under all that is admissible."""
    if shown.reproduced[i]:
        return Verdict.REPRODUCED
    if shown.miss[i]:
        return SIDES[int(shown.miss[i])]
    return Verdict.CONDITIONAL if shown.conditional[i] else Verdict.UNDERPOWERED


def condition(shown: Weighed, task: JudgedCell, i: int, assumed: int) -> str:
    """Return a conditional verdict in words: "reproduced if best and n >= 3, open if last"."""
    open_n = not bool(shown.answers.counted[i])
    left = [j for j in range(len(task.readings)) if shown.answers.readings[i, j]]
    found: dict[str, list[str]] = {}
    for j in left:
        loose, strict = (hypothesis_word(shown, i, j, k) for k in (1, 0))
        name = task.readings[j].statistic.replace("_", " ") if len(left) > 1 else ""
        if open_n and loose != strict:
            said = f"n >= {assumed}"
            found.setdefault(_open(loose), []).append(f"{name} and {said}" if name else said)
            if len(left) > 1:
                found.setdefault(_open(strict), []).append(f"{name} and n = 1")
        else:
            found.setdefault(_open(loose), []).append(name)
    ordered = sorted(found.items(), key=lambda item: item[0] == "open")
    return ", ".join(f"{word} if {' or '.join(names)}" for word, names in ordered)


def _open(word: Verdict) -> str:
    return "open" if word is Verdict.UNDERPOWERED else str(word)


def final_word(
    word: Verdict,
    cell: GridCell,
    published: float,
    apart: tuple[float, float],
    margin: float,
    allowed: float,
) -> Verdict:
    """Return the verdict after what else is known: diverged seeds, expected misses.

    ``apart``: the interval of ours - what sources report instead. A miss is the expected one
    if ours is off to that side, and not beyond it by more than the margin. A hit is
    unexpected unless the two values lie so close that ours may agree with both. ``allowed``:
    which part of the seeds may diverge.
    """
    rate = divergence_rate(cell)
    if word is Verdict.REPRODUCED and rate is not None and rate > allowed:
        return Verdict.DIVERGED
    miss = cell.expected_miss
    if miss is None:
        return word
    low, high = apart
    if word is Verdict.ABOVE and miss.value > published and low <= margin:
        return Verdict.EXPECTED_MISS
    if word is Verdict.BELOW and miss.value < published and high >= -margin:
        return Verdict.EXPECTED_MISS
    if word is Verdict.REPRODUCED and abs(miss.value - published) > margin:
        return Verdict.UNEXPECTED_HIT
    return word


def divergence_rate(cell: GridCell) -> float | None:
    """Return which part of the ended seeds diverged, None if none did."""
    lost = len(cell.diverged_seeds)
    return lost / (lost + cell.n) if lost else None


def divergence_interval(lost: int, ended: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a rate (Clopper and Pearson)."""
    from scipy import special

    low = float(special.betaincinv(lost, ended - lost + 1, 0.025)) if lost else 0.0
    high = float(special.betaincinv(lost + 1, ended - lost, 0.975)) if lost < ended else 1.0
    return low, high


def noise_words(shown: Weighed, task: JudgedCell, i: int, reading: int, assumed: int) -> str:
    """Return where the noise of both sides was taken from."""
    if task.cell.exact:
        return "one checkpoint evaluated, no seed noise"
    from benchmark.results.tabulate import prior_by

    prior, published = prior_by(task.prior, task.readings[reading].statistic), task.published
    scale = max(float(np.ravel(shown.scale)[0]), 1.0)
    basis = f"prior {prior.sigma:.2f} ({prior.name})"
    basis += f" times {scale:.2f} for this table" if scale >= 1.005 else ""
    n = len(task.readings[reading].sample.values)
    overruled = bool(shown.ours.own[i, reading])
    if overruled:
        ours = f"own std of {n} seeds, too wide for the {basis}"
    else:
        ours = f"{basis}, 1 seed" if n == 1 else f"{basis} updated by {n} seeds"
    runs = f"n = {published.n}" if published.n else f"n unstated, taken as {assumed}"
    if published.n is None and assumed > 1 and bool(shown.answers.counted[i]):
        runs += " (the scatter of this table's cells excludes 1)"
    if published.std is not None and published.n is not None and published.n > 1:
        theirs = f"{basis} updated by the published std {published.std:.2f}, {runs}"
    else:
        theirs = f"{'our own' if overruled else 'the same prior'}, {runs}"
        if published.std is not None:
            std = f"{published.std:.2f}"
            theirs += f" (its std {std} is left aside: over how many runs is not said)"
    return f"ours: {ours}; published: {theirs}"
