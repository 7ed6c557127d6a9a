"""What `bench retry` did, or would do."""

from __future__ import annotations

from collections.abc import Iterator

from benchmark.base.words import count
from benchmark.cli.words.status import WIDTH, fold
from benchmark.cli.words.submit import refused
from benchmark.operate.retry import Retried


def lines(found: Retried) -> list[str]:
    """Return a retry in lines for people."""
    return [part for line in _lines(found) for part in fold(line, WIDTH)]


def _lines(found: Retried) -> Iterator[str]:
    yield from (f"warning: {text}" for text in found.warnings)
    yield from (f"{len(group.runs)} x {group.reason}" for group in found.failures)
    yield from _left_alone(found)
    for key, reason in found.damaged.items():
        yield f"{key} is damaged: {reason}; move its directory away and submit the table again"
    yield from refused(found.refused)
    yield from _orphaned(found)
    yield from (f"held after: {why}" for why in found.held)
    for origin, ready in found.ready:
        number = len(ready.submission.runs)
        if found.dry_run:
            yield f"{origin.table}: {count(number, 'run')} would go to {origin.cluster}"
            yield from (f"  {line}" for line in ready.prepared.lines)
        else:
            go = "run goes" if number == 1 else "runs go"
            yield f"{origin.table}: {number:,} {go} to {origin.cluster} again"
    if found.nothing:
        is_are = "is" if found.cancelled == 1 else "are"
        runs = count(found.cancelled, "run")
        hint = f" ({runs} {is_are} cancelled: --cancelled)" if found.cancelled else ""
        yield f"nothing to retry{hint}"
    for why, number in found.waiting.items():
        yield f"{count(number, 'task')} held by Slurm ({why}): `bench resume` releases them"


def _left_alone(found: Retried) -> Iterator[str]:
    if found.chosen.worn_out:
        yield (
            f"{count(len(found.chosen.worn_out), 'run')} failed {found.cap} times with the same"
            f" error: skipped; when the cause is mended, --max {found.cap + 1} tries once more"
        )
    if found.chosen.lost:
        yield (
            f"{count(len(found.chosen.lost), 'run')} in no submission of yours: submit the table"
            " again"
        )


def _orphaned(found: Retried) -> Iterator[str]:
    if not found.orphans:
        return
    teachers = sorted({run.teacher.key for run in found.orphans if run.teacher is not None})
    more = f" and {len(teachers) - 1:,} more" if len(teachers) > 1 else ""
    yield (
        f"{count(len(found.orphans), 'run')} left out, since nobody trains their teacher"
        f" ({teachers[0]}{more}): retry that first, or submit the table again"
    )
