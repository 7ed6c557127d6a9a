"""A plan as lines for people and as JSON values for programs. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmark.base.errors import UserError
from benchmark.base.words import count
from benchmark.planning.device_estimate import Estimate, estimate, usual_resources
from benchmark.planning.kept_answers import shared_questions
from benchmark.planning.matrix import Context, Plan, Slot, make_plan
from benchmark.planning.pack_size import PackSize
from benchmark.planning.packs import Pack
from benchmark.planning.precision import precision_note
from benchmark.planning.remaining import plan_packs, remaining
from benchmark.run.reading import Reading
from benchmark.run.state import RunState
from benchmark.table.load import load_table, table_files
from benchmark.table.selection import Selection


def describe_plan(
    plan: Plan,
    runs_dir: Path,
    pack_size: PackSize,
    data_dir: Path | None = None,
    busy: Container[str] = (),
    failed: Container[str] = (),
) -> str:
    """Return a plan for people: what it holds, what is left to train and what that will cost.

    ``busy``: see :func:`remaining`; ``failed``: keys of runs whose tasks noted that they failed.
    """
    table = plan.table
    left = remaining(plan, runs_dir, busy=busy)
    states = Counter(_state(reading, busy, failed) for reading in left.readings.values())
    elsewhere = len(left.held) + len(left.waiting)
    packs = plan_packs(plan, left.runs, pack_size.sizer(runs_dir))
    cells = {v.cell_key for slot in plan.slots for v in slot.variants}
    seeds = ", ".join(str(seed) for seed in plan.seeds)
    lines = [
        f"{table.name}: {table.title or table.source.paper}",
        f"  dataset {table.dataset}, recipe {table.recipe}, protocol {table.protocol.report}",
        f"  {count(len(plan.slots), 'slot')}, {count(len(cells), 'cell')}, seeds {seeds}:"
        f" {count(len(plan.runs), 'run')}, of which {count(len(plan.teachers), 'teacher')}",
        f"  runs in {runs_dir}: "
        + ", ".join(f"{number} {state}" for state, number in sorted(states.items())),
        f"  to train: {count(len(left.runs), 'run')} in {count(len(packs), 'pack')} of {pack_size}"
        + (f"; left to another process: {count(elsewhere, 'run')}" if elsewhere else ""),
    ]
    lines += [f"  note: {note}" for note in plan.notes]
    for sha256, file in plan.files.items():
        lines.append(f"  your own teacher: {file.path} (sha256 {sha256[:12]})")
    for run in left.damaged[:20]:
        lines.append(f"  damaged: {left.readings[run.key].reason}")
    for pack in packs[:20]:
        after = f" after {', '.join(pack.depends)}" if pack.depends else ""
        lines.append(f"    {pack.id}  {pack.label}{after}")
    if len(packs) > 20:
        lines.append(f"    and {len(packs) - 20} more")
    if packs and table.trainable:
        lines.append(f"  {_estimate(packs, runs_dir, data_dir).words()}")
        note = precision_note(left.runs)
        lines += [] if note is None else [f"  {note}"]
        for questions in shared_questions(packs, data_dir):
            if questions.enough:
                lines += [
                    f"  {questions.words()}",
                    "    `bench teachers fill` asks them beforehand",
                ]
    return "\n".join(lines)


def _state(found: Reading, busy: Container[str], failed: Container[str]) -> RunState:
    """Return how a run stands by its directory and by what the user's submissions noted."""
    if not found.silent:
        return found.state
    if found.key in busy:
        return RunState.QUEUED
    return RunState.FAILED if found.key in failed else found.state


def _estimate(packs: Sequence[Pack], runs_dir: Path, data_dir: Path | None) -> Estimate:
    return estimate(packs, usual_resources(packs), runs_dir, data_dir)


def plan_to_json(
    plan: Plan,
    runs_dir: Path,
    pack_size: PackSize,
    data_dir: Path | None = None,
    busy: Container[str] = (),
) -> dict[str, Any]:
    """Return a plan as JSON values: an entry a slot and metric, what is left to train, its cost."""
    table = plan.table
    packs = plan_packs(plan, remaining(plan, runs_dir, busy=busy).runs, pack_size.sizer(runs_dir))
    return {
        "schema": 1,
        "table": table.name,
        "dataset": table.dataset,
        "recipe": table.recipe,
        "seeds": list(plan.seeds),
        "cells": [entry for slot in plan.slots for entry in _slot_entries(plan, slot)],
        "packs": [_pack_entry(pack) for pack in packs],
        "estimate": _estimate(packs, runs_dir, data_dir).to_json(),
        "questions": [found.to_json() for found in shared_questions(packs, data_dir)],
    }


def _slot_entries(plan: Plan, slot: Slot) -> list[dict[str, Any]]:
    entries = []
    for metric in plan.table.metrics:
        published = plan.table.published_value(slot.row.name, slot.column.name, metric)
        entries.append(
            {
                "row": slot.row.name,
                "column": slot.column.name,
                "teacher": slot.teacher,
                "student": slot.student,
                "methods": [use.name for use in slot.row.methods],
                "metric": metric,
                "published": published.value if published else None,
                "protocol": plan.table.protocol.report,
                "key": slot.variants[0].cell_key if slot.variants else None,
                "keys": [variant.cell_key for variant in slot.variants],
            }
        )
    return entries


def _pack_entry(pack: Pack) -> dict[str, Any]:
    return {
        "id": pack.id,
        "label": pack.label,
        "runs": [run.key for run in pack.runs],
        "depends": list(pack.depends),
    }


def check_tables(name: str | None, context: Context) -> Iterator[str]:
    """Expand one table, or all of them; yield a line each. Raises UserError for a wrong one."""
    for each in [name] if name is not None else sorted(table_files()):
        table = load_table(each)
        plan = make_plan(table, Selection(), context)
        slots, runs = count(len(plan.slots), "slot"), count(len(plan.runs), "run")
        yield f"{table.name}: {slots}, {runs}, ok"


def tables_overview() -> str:
    """Return the known tables, a line each; a broken file says so in its line."""
    lines = []
    for name, path in sorted(table_files().items()):
        try:
            table = load_table(str(path))
        except UserError as error:
            lines.append(f"{name:26} broken: {error}")
            continue
        size = f"{count(len(table.rows), 'row')} x {count(len(table.columns), 'column')}"
        note = "" if table.trainable else ", shown only"
        lines.append(f"{name:26} {table.dataset:10} {size:24} {table.source.paper}{note}")
    return "\n".join(lines)
