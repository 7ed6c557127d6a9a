"""Which of a slot's groups of runs is shown, and how far its runs are.

The table's own runs count alone as soon as one of them has ended, diverged ones included;
until then the runs with overrides of which most have ended. Groups that are not shown are
named. Imports no torch.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.base.words import count
from benchmark.planning.matrix import Slot
from benchmark.results.assign import Group
from benchmark.results.grid import HyperparameterChoice, Mark, MarkKind, State
from benchmark.run.state import ENDED, RunState

_FAILED = (RunState.FAILED, RunState.DAMAGED)
_SETTLED = (*ENDED, RunState.DAMAGED)


@dataclass(frozen=True)
class Choice:
    """What stands in a slot: ``shown``, of the ``pool`` of its variants, with remarks."""

    shown: Group | None
    pool: tuple[Group, ...]
    selection: HyperparameterChoice | None = None
    marks: tuple[Mark, ...] = ()


def choose(slot: Slot, groups: Sequence[Group], metric: str, protocol: str) -> Choice:
    """Return which group of a slot is shown for a metric by a protocol."""
    own = [g for g in groups if not g.differences]
    foreign = [g for g in groups if g.differences]
    marks = []
    if any(g.ended for g in own):
        pool, others = _largest(own, lambda g: g.kind)
        marks += _not_shown(others, "of the table's own")
    elif any(g.ended for g in foreign):
        pool, others = _largest(foreign, lambda g: (g.unlikeness, g.kind))
        marks += _not_shown([g for g in others if g.ended], "with other overrides")
        if any(run.state not in _SETTLED for g in own for run in g.runs):
            marks.append(Mark(MarkKind.OTHER, "the table's own runs are not finished yet"))
    else:
        pool = own or foreign  # nothing has a value that could be mixed
    if slot.row.select is None:
        shown = max(pool, key=lambda g: (len(g.finished), len(g.runs), g.cell), default=None)
        return Choice(shown, tuple(pool), None, tuple(marks))
    return _select(slot, pool, metric, protocol, marks)


def _largest(groups: Sequence[Group], by: Any) -> tuple[list[Group], list[Group]]:
    """Return the groups that belong together by a key and have most results, and the others."""
    together: dict[Any, list[Group]] = defaultdict(list)
    for group in groups:
        together[by(group)].append(group)

    def weight(key: Any) -> tuple[int, int, int, str]:
        mine = together[key]
        finished = sum(len(g.finished) for g in mine)
        return -finished, -sum(g.ended for g in mine), len(mine[0].differences), repr(key)

    ranked = sorted(together, key=weight)
    return [g for key in ranked[:1] for g in together[key]], [
        g for key in ranked[1:] for g in together[key]
    ]


def _not_shown(groups: Sequence[Group], which: str) -> list[Mark]:
    number = sum(len(g.runs) for g in groups)
    if not number:
        return []
    kinds = "; ".join(dict.fromkeys(g.kind for g in groups if g.kind))
    text = f"{count(number, 'further run')} {which} not counted" + (f" ({kinds})" if kinds else "")
    return [Mark(MarkKind.OTHER, text)]


def _select(
    slot: Slot, pool: Sequence[Group], metric: str, protocol: str, marks: list[Mark]
) -> Choice:
    """Choose a grid's best combination, on the test set or on held-out images.

    One without a diverged seed comes before one with.
    """
    assert slot.row.select is not None
    on = slot.row.select.on

    def values(group: Group) -> list[float]:
        if on == "split":
            return [run.val_top1 for run in group.finished if run.val_top1 is not None]
        return [run.value(metric, protocol) for run in group.finished]

    candidates = [g for g in pool if values(g)]
    total = len(slot.variants)
    if not candidates:
        if any(g.finished for g in pool):
            text = "no run has the accuracy on held-out images by which the table selects"
            marks.append(Mark(MarkKind.OTHER, text))
            return Choice(None, tuple(pool), None, tuple(marks))
        shown = max(pool, key=lambda g: (g.ended, len(g.runs), g.cell), default=None)
        return Choice(shown, tuple(pool), None, tuple(marks))
    if len(candidates) < total:
        text = f"{len(candidates)} of {total} combinations have results so far"
        marks.append(Mark(MarkKind.OTHER, text))
    best = max(
        candidates,
        key=lambda g: (g.ended == len(g.finished), statistics.fmean(values(g)), -g.variant),
    )
    words = [_assigned(k, v) for k, v in slot.variants[best.variant].assignment.items()]
    selection = HyperparameterChoice(chosen=", ".join(words), on=on, candidates=len(candidates))
    return Choice(best, tuple(pool), selection, tuple(marks))


def _assigned(name: str, value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{name.partition('.')[2]} = {f'{value:g}' if number else value}"


def progress(choice: Choice, planned: int) -> tuple[State, tuple[int, ...]]:
    """Return how far a slot is, and the seeds of the shown group that failed.

    ``planned``: runs that the slot wants, over all its variants.
    """
    runs = [run for group in choice.pool for run in group.runs]
    states = {run.state for run in runs}
    shown = choice.shown.runs if choice.shown else ()
    failed = tuple(sorted({run.seed for run in shown if run.state in _FAILED}))
    done = sum(len(group.finished) for group in choice.pool)
    ended = sum(len({run.seed for run in g.runs if run.state in ENDED}) for g in choice.pool)
    if RunState.RUNNING in states:
        return State.RUNNING, failed
    if RunState.QUEUED in states:
        return State.QUEUED, failed
    if done and ended >= planned:
        return State.DONE, failed
    if not states.isdisjoint(_FAILED):
        return State.FAILED, failed
    if done:
        return State.PARTIAL, failed
    if ended:
        return State.DIVERGED, failed
    return (State.PARTIAL if runs else State.MISSING), failed
