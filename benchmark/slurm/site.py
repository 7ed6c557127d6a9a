"""What the operators of a site allow: one YAML file, whose caps no profile exceeds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from benchmark.base.yamlfile import load_yaml, validate
from benchmark.slurm.notation import megabytes, minutes
from benchmark.table.recipe import Count, Positive, Strict

SITE_FILE = Path("/etc/bench/site.yaml")


def spelling(check: Callable[[str], object], example: str) -> BeforeValidator:
    """Return what refuses an amount that ``check`` does, or that YAML took for a number."""

    def validator(value: Any) -> Any:
        # YAML 1.1 reads 24:00:00 as the number 86400, so times and amounts must be quoted.
        if value is None or isinstance(value, str):
            if value is not None:
                check(value)
            return value
        raise ValueError(f"write it in quotes, such as '{example}'")

    return BeforeValidator(validator)


Time = Annotated[str, spelling(minutes, "24:00:00")]
Memory = Annotated[str, spelling(megabytes, "4G")]


class Caps(Strict):
    """The most that a user may ask for at this site; what is not set is not capped.

    ``forbidden-options``: names of sbatch's options, of a profile's keys or beyond them.
    """

    partitions: tuple[str, ...] | None = None
    forbidden_options: tuple[str, ...] = Field((), alias="forbidden-options")
    time: Time | None = None
    gpus: Count | None = None
    cpus_per_task: Positive | None = Field(None, alias="cpus-per-task")
    mem: Memory | None = None
    array_parallelism: Positive | None = Field(None, alias="array-parallelism")
    max_array_size: Positive | None = Field(None, alias="max-array-size")
    max_jobs: Positive | None = Field(None, alias="max-jobs")


class Site(Strict):
    """The operators' file: caps, and how often a user may ask Slurm for its queue."""

    caps: Caps = Caps()
    refresh_seconds: Positive = Field(30, alias="refresh-seconds")


def load_site() -> Site:
    """Read /etc/bench/site.yaml; only if there is none may BENCH_SITE name another file."""
    chosen = os.environ.get("BENCH_SITE")
    path = SITE_FILE if SITE_FILE.exists() or not chosen else Path(chosen)
    return validate(Site, load_yaml(path), str(path)) if path.exists() else Site()
