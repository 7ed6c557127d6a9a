"""Foresee a table's verdicts once, and remember them.

The arithmetic (results/forecast.py) needs numpy and scipy, which plan otherwise does without. It
is a function of the table, the seeds, the known teachers and the code, so what it found is kept
under a digest of these in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter, ValidationError

from benchmark.base.errors import UserError
from benchmark.base.files import make_directory, read_json, write_json
from benchmark.base.machine import own_cache_dir
from benchmark.base.origin import code_digest
from benchmark.results.foreseen import TableForecast
from benchmark.table.spec import Table
from benchmark.table.teachers import registry

_REMEMBERED = 100


def foresee(table: Table, seeds: int) -> TableForecast:
    """Return what a table will say at so many seeds a cell if the paper is right."""
    asked = (code_digest(), table.model_dump_json(), registry().model_dump_json(), str(seeds))
    key = hashlib.sha256("\0".join(asked).encode()).hexdigest()[:32]
    path = own_cache_dir() / "forecasts.json"
    kept: dict[str, Any] = {}
    with contextlib.suppress(OSError, UserError, KeyError, TypeError, ValueError):
        kept = dict(read_json(path, 1)["forecasts"])
    with contextlib.suppress(ValidationError, KeyError):
        return TypeAdapter(TableForecast).validate_python(kept[key])
    from benchmark.results.forecast import forecast

    found = forecast(table, seeds)
    with contextlib.suppress(OSError, UserError):  # without it the next plan takes longer
        make_directory(path.parent)
        newest = [*kept.items(), (key, asdict(found))][-_REMEMBERED:]
        write_json(path, {"schema": 1, "forecasts": dict(newest)})
    return found
