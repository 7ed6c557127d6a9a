"""What `bench doctor` measured of the CPU, kept in the user's cache. Imports no torch."""

from __future__ import annotations

import contextlib
import enum
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

from benchmark.base.errors import UserError
from benchmark.base.files import make_directory, write_json
from benchmark.base.machine import cpu_facts, own_cache_dir, visible_cpus

SCHEMA = 1
# Training steps of this network on so many images of this side are what is measured.
MODEL, BATCH, SIDE = "resnet8x4", 16, 32
_PATIENCE_SECONDS = 120


class Form(enum.Enum):
    """A way to train: precision, memory format, threads."""

    PLAIN = ("fp32", False, 1)
    CHANNELS_LAST = ("fp32", True, 1)
    BF16 = ("bf16", True, 1)
    TWO_THREADS = ("fp32", True, 2)

    def __init__(
        self, precision: Literal["fp32", "bf16"], channels_last: bool, threads: int
    ) -> None:
        self.precision = precision
        self.channels_last = channels_last
        self.threads = threads


class Speed:
    """Seconds of a training step by its form, on one kind of CPU."""

    def __init__(self, seconds: Mapping[Form, float]) -> None:
        self.seconds = seconds

    def gain(self, form: Form, over: Form = Form.CHANNELS_LAST) -> float | None:
        """Return how many times as fast one form is as another, None if it was not measured."""
        ours, theirs = self.seconds.get(form), self.seconds.get(over)
        return theirs / ours if ours and theirs else None

    def words(self) -> str:
        """Return what was measured for people."""
        rate = BATCH / self.seconds[Form.CHANNELS_LAST]
        parts = [
            f"{name} {gain:.2f}x"
            for name, gain in (
                ("channels_last", self.gain(Form.CHANNELS_LAST, Form.PLAIN)),
                ("bfloat16", self.gain(Form.BF16)),
                ("two threads", self.gain(Form.TWO_THREADS)),
            )
            if gain is not None
        ]
        return f"{rate:.0f} images/s in steps of {MODEL} on one thread; {', '.join(parts)}"


@cache
def known_speed() -> Speed | None:
    """Return what was measured on this kind of CPU with this torch; None if nothing was."""
    try:
        found = json.loads(_path().read_text(encoding="utf-8"))
        if found["schema"] != SCHEMA or found["about"] != _about():
            return None
        return _speed(found["seconds"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def measure_speed() -> Speed | None:
    """Measure, in a process of its own, and remember it; None where that fails."""
    command = [sys.executable, "-P", "-m", "benchmark.train.speed"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_PATIENCE_SECONDS
        )
        found = _speed(json.loads(done.stdout))
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError, AttributeError):
        return None
    remember(found)
    return found


def remember(speed: Speed) -> None:
    """Keep what was measured, as far as the user's cache can be written."""
    seconds = {form.name.lower(): value for form, value in speed.seconds.items()}
    with contextlib.suppress(OSError, UserError):
        make_directory(_path().parent)
        write_json(_path(), {"schema": SCHEMA, "about": _about(), "seconds": seconds})
    known_speed.cache_clear()


def _speed(seconds: Mapping[str, float]) -> Speed:
    found = {Form[name.upper()]: float(value) for name, value in seconds.items()}
    if Form.CHANNELS_LAST not in found or not all(0 < v < 1e6 for v in found.values()):
        raise ValueError("not a measurement")
    return Speed(found)


def _path() -> Path:
    return own_cache_dir() / "speed.json"


def _about() -> dict[str, str | int]:
    return {"cpu": this_cpu(), "cpus": visible_cpus(), "torch": importlib.metadata.version("torch")}


@cache
def this_cpu() -> str:
    """Return vendor, family and model of this machine's CPU, empty if they cannot be told."""
    words = [cpu_facts().get(name, "") for name in ("vendor_id", "cpu family", "model")]
    return f"{words[0]} {words[1]}/{words[2]}" if all(words) else ""
