"""Submit again what failed or was cancelled, as it was submitted before. Imports no torch.

A run that failed alike too often is left alone: what is broken stays broken by repetition.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.base.errors import UserError
from benchmark.base.files import read_json
from benchmark.base.words import count
from benchmark.base.yamlfile import validate
from benchmark.monitor.failures import Failed, group
from benchmark.monitor.look import Seen, look
from benchmark.monitor.wanted import table_name
from benchmark.operate.stop import call_with_ids, task_lists
from benchmark.planning.packs import DEFAULT_PACK, make_packs
from benchmark.run.directory import RunDir
from benchmark.run.identity import Run
from benchmark.run.reading import read
from benchmark.run.state import RunState
from benchmark.slurm.arrays import read_pack
from benchmark.slurm.profile import load_site, profile_as_sent, profile_files
from benchmark.submission import marks
from benchmark.submission.hand_over import executor_for
from benchmark.submission.sent import Work, busy_keys, submitted_tables
from benchmark.submission.submission import Executor, QueueExecutor, Submission, new_submission

DEFAULT_CAP = 3
_WAITING = ("waiting", "requeued")
_SCHEMA = 1


@dataclass(frozen=True)
class Origin:
    """How runs were submitted, and so will be again."""

    table: str
    cluster: str
    record: Path | None  # of a Slurm submission: names its profile
    data_dir: str
    reader: str | None
    plugins: tuple[str, ...]


@dataclass(frozen=True)
class Chosen:
    """What is taken up again, by how it was submitted, and what is not."""

    runs: dict[Origin, list[Run]]
    worn_out: tuple[str, ...]
    lost: tuple[str, ...]


class Ready(NamedTuple):
    """Runs of one origin, checked; ``announced``: what their executor says of them.

    ``submission``: None where nothing is left of them. ``orphans``: runs that are left out,
    since nobody trains their teacher.
    """

    executor: Executor
    submission: Submission | None
    announced: list[str]
    orphans: list[Run]


def retry(
    runs_dir: Path,
    table: str | None,
    *,
    failed: bool,
    cancelled: bool,
    cap: int = DEFAULT_CAP,
    profile: str | None = None,
    dry_run: bool = False,
) -> tuple[list[str], int]:
    """Submit again; return what was done as lines, and the exit code.

    ``profile``: instead of the one that was used before. Raises UserError where neither failed
    nor cancelled runs are asked for.
    """
    if not failed and not cancelled:
        raise UserError("say what to retry: --failed, --cancelled, or both")
    name = None if table is None else table_name(table, submitted_tables(runs_dir))
    seen = look(runs_dir, table=name)
    states = (("failed", "stopped") if failed else ()) + (("cancelled",) if cancelled else ())
    keys = [key for key, standing in seen.standings.items() if standing.name in states]
    held = _held(seen) if failed else []
    keys += [key for work in held for key in work.keys if seen.standings[key].name == "held"]
    lines = [f"warning: {text}" for text in seen.warnings] + _reasons(keys, seen)
    chosen = choose(runs_dir, keys, seen, cap)
    lines += _left_alone(chosen, cap) + _damaged(seen)
    # All is checked before anything is changed.
    going = {run.key for runs in chosen.runs.values() for run in runs}
    ready = {
        origin: _prepare(runs_dir, origin, runs, profile, going)
        for origin, runs in chosen.runs.items()
    }
    lines += _orphaned(ready.values())
    lines += [f"held after: {why}" for why in sorted({work.held for work in held})]
    if not dry_run:
        _release(held)
    code = 0
    for origin, prepared in ready.items():
        if dry_run:
            lines += _rehearsed(origin, prepared)
        elif prepared.submission is not None:
            lines.append(_going(origin, prepared.submission))
            code = max(code, _start(prepared.executor, prepared.submission))
    if not keys:
        lines.append("nothing to retry" + ("" if cancelled else _cancelled(seen)))
    return lines, code


def choose(runs_dir: Path, keys: Sequence[str], seen: Seen, cap: int) -> Chosen:
    """Sort runs by how they were submitted; leave out those that failed alike too often."""
    found: dict[Origin, list[Run]] = {}
    worn_out, lost = [], []
    packs: dict[Work, dict[str, Any]] = {}
    for key in keys:
        work = seen.works.get(key)
        if work is None:
            lost.append(key)
            continue
        if seen.standings[key].attempts >= cap:
            worn_out.append(key)
            continue
        if work not in packs:
            packs[work] = _content(work)
        data = packs[work]
        run = validate(Run, data["runs"][list(work.keys).index(key)], f"pack {work.label}")
        found.setdefault(_origin(work, data), []).append(run)
    return Chosen(found, tuple(worn_out), tuple(lost))


def _content(work: Work) -> dict[str, Any]:
    if work.array is not None:
        return read_pack(work.folder / f"array-{work.array.number}.jsonl", work.number)
    path = work.folder / "packs" / f"{work.id}.json"
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the pack {path}: {error}") from error
    return data


def _origin(work: Work, data: dict[str, Any]) -> Origin:
    return Origin(
        table=work.table,
        cluster="slurm" if work.in_slurm else "local",
        record=work.folder / "submission.json" if work.in_slurm else None,
        data_dir=data["data_dir"],
        reader=data["reader"],
        plugins=tuple(data["plugins"]),
    )


def _prepare(
    runs_dir: Path, origin: Origin, runs: list[Run], profile: str | None, going: Collection[str]
) -> Ready:
    executor = _executor(origin, profile)
    queued = executor.in_flight(runs_dir) if isinstance(executor, QueueExecutor) else {}
    coming = {*going, *queued, *busy_keys(runs_dir)}
    orphans = [run for run in runs if not _has_teacher(run, runs_dir, going, coming)]
    runs = [run for run in runs if run not in orphans]
    if not runs:
        return Ready(executor, None, [], orphans)
    teachers = {run.teacher.key for run in runs if run.teacher is not None}
    theirs = {run.key for run in runs}
    queued = {key: found for key, found in queued.items() if key not in theirs}
    elsewhere = {key: queued[key].pack for key in teachers if key in queued}
    packs = make_packs(origin.table, runs, teachers, DEFAULT_PACK, elsewhere)
    submission = new_submission(
        origin.table,
        packs,
        runs_dir,
        Path(origin.data_dir),
        [Path(path) for path in origin.plugins],
        origin.reader,
        queued,
    )
    return Ready(executor, submission, executor.announce(submission), orphans)


def _rehearsed(origin: Origin, ready: Ready) -> list[str]:
    if ready.submission is None:
        return []
    runs = count(len(_runs_of(ready.submission)), "run")
    said = [f"  {line}" for line in ready.announced]
    return [f"{origin.table}: {runs} would go to {origin.cluster}", *said]


def _going(origin: Origin, submission: Submission) -> str:
    number = len(_runs_of(submission))
    go = "run goes" if number == 1 else "runs go"
    return f"{origin.table}: {number:,} {go} to {origin.cluster} again"


def _start(executor: Executor, submission: Submission) -> int:
    for run in _runs_of(submission):
        RunDir(submission.runs_dir, run.key).cancelled.unlink(missing_ok=True)
    return executor.start(submission, wait=False)


def _runs_of(submission: Submission) -> list[Run]:
    return [run for pack in submission.packs for run in pack.runs]


def _cancelled(seen: Seen) -> str:
    """Return a hint at the runs that --cancelled would retry."""
    number = sum(standing.name == "cancelled" for standing in seen.standings.values())
    is_are = "is" if number == 1 else "are"
    return f" ({count(number, 'run')} {is_are} cancelled: --cancelled)" if number else ""


def _has_teacher(run: Run, runs_dir: Path, going: Collection[str], coming: Collection[str]) -> bool:
    """Tell whether a run's teacher is there, or somebody trains it."""
    if run.teacher is None or run.teacher.source == "registry" or run.teacher.key in going:
        return True
    state = read(RunDir(runs_dir, run.teacher.key)).state
    if state in (RunState.DONE, RunState.RUNNING):
        return True
    return run.teacher.key in coming and state is not RunState.CANCELLED


def _executor(origin: Origin, profile: str | None) -> Executor:
    """The executor of before; a profile that is no file any more is taken as it was sent."""
    if origin.record is None or profile is not None:
        return executor_for(origin.cluster, profile)[0]
    sent = read_json(origin.record, _SCHEMA)
    if sent["profile"] in profile_files():
        return executor_for(origin.cluster, sent["profile"])[0]
    from benchmark.submission.slurm import SlurmExecutor

    site = load_site()
    return SlurmExecutor(profile_as_sent(sent["profile"], sent["options"], site), site)


def _reasons(keys: Iterable[str], seen: Seen) -> list[str]:
    failures = [
        Failed(key, seen.standings[key].reason, None, None)
        for key in keys
        if seen.standings[key].reason and seen.standings[key].name != "held"
    ]
    return [f"{len(found.runs)} x {found.reason}" for found in group(failures)]


def _left_alone(chosen: Chosen, cap: int) -> list[str]:
    lines = []
    if chosen.worn_out:
        lines.append(
            f"{count(len(chosen.worn_out), 'run')} failed alike {cap} times: left alone; when the"
            f" cause is mended, --max {cap + 1} tries once more"
        )
    if chosen.lost:
        lines.append(
            f"{count(len(chosen.lost), 'run')} in no submission of yours: submit the table again"
        )
    return lines


def _damaged(seen: Seen) -> list[str]:
    return [
        f"{key} is damaged: {standing.reason}; move its directory away and submit the table again"
        for key, standing in seen.standings.items()
        if standing.name is RunState.DAMAGED
    ]


def _orphaned(ready: Iterable[Ready]) -> list[str]:
    orphans = [run for item in ready for run in item.orphans]
    if not orphans:
        return []
    teachers = sorted({run.teacher.key for run in orphans if run.teacher is not None})
    more = f" and {len(teachers) - 1:,} more" if len(teachers) > 1 else ""
    return [
        f"{count(len(orphans), 'run')} left out, since nobody trains their teacher"
        f" ({teachers[0]}{more}): retry that first, or submit the table again"
    ]


def _held(seen: Seen) -> list[Work]:
    """Packs that wait in submissions that are held after failures."""
    held = {work.folder for work in seen.packs if work.in_slurm and marks.held(work.folder)}
    return [work for work in seen.packs if work.folder in held and work.state.name in _WAITING]


def _release(held: Iterable[Work]) -> None:
    """End a hold. What waits is sent anew: its teacher may be among what failed.

    Merely released, students would start at once and miss it.
    """
    works = list(held)
    call_with_ids(["scancel"], task_lists(works))
    for folder in {work.folder for work in works}:
        marks.release(folder)
