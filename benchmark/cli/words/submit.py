"""What `bench submit` says of a plan before anything starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from benchmark.base.words import count
from benchmark.submission.hand_over import ReadyPlan

_SHOWN = 3


def standing(found: ReadyPlan) -> Iterator[str]:
    """Yield how a plan's runs stand, what is left out and why, and where the rest goes."""
    plan, left = found.plan, found.left
    runs = count(len(plan.runs), "run")
    yield f"{plan.table.name}: {len(left.done)} of {runs} done, {len(left.runs)} to train"
    yield from plan.notes if left.runs else ()
    if left.queued:
        queued = found.ready.submission.queued
        states = Counter(queued[run.key].state for run in left.queued)
        told = ", ".join(f"{number} {state}" for state, number in states.most_common(4))
        yield f"queued already: {told}"
        stopped = sum("held" in queued[run.key].state.lower() for run in left.queued)
        if stopped:
            yield f"held: {count(stopped, 'run')} of these; `bench status` says what releases them"
    if left.held:
        held = count(len(left.held), "run")
        yield f"left to another process, which trains now or next: {held}"
    if left.waiting:
        waiting = count(len(left.waiting), "run")
        yield f"left until another process has trained their teacher: {waiting}; submit again then"
    if left.cancelled:
        cancelled = count(len(left.cancelled), "run")
        yield f"cancelled: {cancelled}; `bench retry --cancelled` takes them up"
    yield from refused(found.ready.refused)
    yield from (questions.words() for questions in found.ready.questions)
    yield from found.ready.prepared.lines if found.ready.submission.packs else ()


def filling(found: ReadyPlan) -> Iterator[str]:
    """Yield what teachers are asked beforehand, and where."""
    yield from (questions.words() for questions in found.ready.questions)
    yield from refused(found.ready.refused)
    if found.ready.submission.packs:
        yield from found.ready.prepared.lines
    elif found.left.runs:
        yield (
            "nothing to ask beforehand: no teacher whose answers can be kept is shown the same"
            " pictures by several of these packs"
        )
    else:
        yield "nothing to ask beforehand: no run is left to train"


def refused(reasons: Mapping[str, str]) -> Iterator[str]:
    """Yield which runs are left out and why, a few for each reason."""
    by_reason: dict[str, list[str]] = {}
    for key, reason in reasons.items():
        by_reason.setdefault(reason, []).append(key)
    for reason, keys in by_reason.items():
        named = ", ".join(keys[:_SHOWN])
        more = f" and {len(keys) - _SHOWN:,} more" if len(keys) > _SHOWN else ""
        yield f"left out: {named}{more}: {reason}"
