"""A status as JSON values for programs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmark.monitor.failures import FailureGroup
from benchmark.monitor.summary import Silent, Status, TableStatus
from benchmark.run.state import RunState

SCHEMA = 1


def to_json(status: Status) -> dict[str, Any]:
    """Return a status as JSON values; hours and times may be null."""
    return {
        "schema": SCHEMA,
        "runs_dir": str(status.runs_dir),
        "taken": status.taken,
        "warnings": list(status.warnings),
        "tables": [_table_json(table) for table in status.tables],
    }


def _table_json(table: TableStatus) -> dict[str, Any]:
    return {
        "table": table.table,
        "cells": _counts(table.cells, table.planned),
        "runs": _counts(table.runs, table.planned),
        "requeued": dict(table.requeued),
        "held": dict(table.held),
        "waiting": dict(table.waiting),
        "gpu_hours": {"used": table.gpu_hours, "left": table.gpu_hours_left},
        "task_hours": {"used": table.hours, "left": table.hours_left},
        "ends": table.ends,
        "images_per_second": table.images_per_second,
        "heartbeat_age": table.heartbeat_age,
        "restarts": table.restarts,
        "changed": table.changed,
        "failures": [_group_json(found) for found in table.failures],
        "damaged": [_group_json(found) for found in table.damaged],
        "stopped": [_group_json(found) for found in table.stopped],
        "stuck": [_silent_json(item) for item in table.stuck],
        "slow": [_silent_json(item) for item in table.slow],
    }


def _counts(counts: Mapping[str, int], planned: bool) -> dict[str, int | None]:
    found: dict[str, int | None] = {state: counts.get(state, 0) for state in RunState}
    if not planned and not found["missing"]:
        found["missing"] = None  # nobody knows
    return found


def _group_json(found: FailureGroup) -> dict[str, Any]:
    return {
        "reason": found.reason,
        "count": len(found.runs),
        "runs": list(found.runs),
        "log": str(found.log) if found.log else None,
        "last_lines": list(found.lines),
    }


def _silent_json(item: Silent) -> dict[str, Any]:
    return {
        "run": item.run,
        "seconds": item.seconds,
        "holder": item.holder,
        "progress": item.progress,
    }
