"""How fast a device does what was counted: measured for some, from data sheets for others.

Seconds of work are its operations, its bytes moved and its kernels, each by their rate, added up.
Imports no torch.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from benchmark.base.speed import BATCH, MODEL, SIDE, Form, Speed, known_speed, this_cpu
from benchmark.planning.operations import Effort, counted_work


class Rates(NamedTuple):
    """What one device does a second, and where that is known from.

    ``spread``: the factor that an estimate by it may be off by.
    """

    operations: float
    bytes: float
    kernel_seconds: float
    spread: float
    source: str

    def seconds(self, work: Effort) -> float:
        """Return how long some work takes."""
        return (
            work.operations / self.operations
            + work.moved / self.bytes
            + work.kernels * self.kernel_seconds
        )


class _Cpu(NamedTuple):
    """One kind of CPU: operations and bytes a second of one thread, and seconds a kernel.

    ``spread`` and ``source`` as in :class:`Rates`.
    """

    fp32: tuple[float, float, float]
    bf16: tuple[float, float, float]
    spread: float
    source: str


class _Gpu(NamedTuple):
    """One kind of GPU by its data sheet: peak operations in TF32 or float32, in bfloat16, bytes."""

    fp32: float
    bf16: float
    bytes: float


# By vendor, family and model of /proc/cpuinfo. Fitted to the passes and steps of 15 networks that
# docs/benchmarks.md lists under "Precision and memory format" (channels_last, two threads).
_CPUS = {
    "AuthenticAMD 25/17": _Cpu(
        fp32=(1.14e11, 1.73e10, 3e-5),
        bf16=(2.06e11, 2.66e10, 3e-5),
        spread=2.0,
        source="rates of an AMD EPYC, family 25, model 17",
    ),
    "GenuineIntel 6/207": _Cpu(
        # Measured there: only that bfloat16 (avx512_bf16, no AMX) is 0.62 times as fast.
        fp32=(1.14e11, 1.73e10, 3e-5),
        bf16=(0.71e11, 1.07e10, 3e-5),
        spread=3.0,
        source="rates of an AMD EPYC, with what bfloat16 costs on an Intel Xeon, model 207",
    ),
}
_USUAL_CPU = "AuthenticAMD 25/17"
# What each further thread adds, of the first one's speed.
_FURTHER_THREAD = 0.95

# Peaks of NVIDIA's data sheets: dense, without sparsity; convolutions in TF32 if there is one.
_GPUS = {
    "V100": _Gpu(15.7e12, 15.7e12, 0.9e12),
    "A100": _Gpu(156e12, 312e12, 1.555e12),
    "H100": _Gpu(495e12, 989e12, 3.35e12),
    "RTX 3090": _Gpu(35.6e12, 71e12, 0.936e12),
    "RTX 4090": _Gpu(82.6e12, 165e12, 1.008e12),
    "T4": _Gpu(8.1e12, 8.1e12, 0.32e12),
}
_USUAL_GPU = "A100"
# What eager kernels leave of the peaks, fitted to the training rates of eight networks on one kind
# of GPU that timm publishes (docs/benchmarks.md); the launch of a kernel is assumed.
_SHARE_OF_OPERATIONS, _SHARE_OF_BYTES, _LAUNCH_SECONDS = 0.6, 0.75, 1.2e-5
_BYTES_OF_FLOAT32 = {"fp32": 1.0, "bf16": 0.5}  # work is counted in float32


def cpu_rates(precision: str, threads: int, kind: str | None = None) -> Rates:
    """Return the rates of a kind of CPU; by default this machine's, as fast as it was measured."""
    if kind is None:
        speed = known_speed()
        found = _table_rates(precision, threads, this_cpu())
        return found if speed is None else _as_measured(found, precision, threads, speed)
    return _table_rates(precision, threads, kind)


def _table_rates(precision: str, threads: int, kind: str) -> Rates:
    found = _CPUS.get(kind) or _CPUS[_USUAL_CPU]._replace(
        spread=3.0, source=f"{_CPUS[_USUAL_CPU].source}, which this CPU is not"
    )
    operations, moved, kernel = found.bf16 if precision == "bf16" else found.fp32
    factor = 1 + _FURTHER_THREAD * (threads - 1)
    source = f"counted operations and {found.source}"
    return Rates(operations * factor, moved * factor, kernel, found.spread, source)


def _as_measured(rates: Rates, precision: str, threads: int, speed: Speed) -> Rates:
    form = Form.BF16 if precision == "bf16" else Form.CHANNELS_LAST
    if precision != "bf16" and threads > 1 and Form.TWO_THREADS in speed.seconds:
        form = Form.TWO_THREADS
    took = speed.seconds.get(form)
    if took is None:
        return rates
    alone = _table_rates(precision, form.threads, this_cpu())
    pace = alone.seconds(counted_work().network(MODEL, SIDE).step.on(BATCH)) / took
    return Rates(
        rates.operations * pace,
        rates.bytes * pace,
        rates.kernel_seconds / pace,
        2.0,
        "counted operations and the speed that bench doctor measured here",
    )


def bf16_gain(kind: str | None = None) -> float | None:
    """Return how many times as fast bfloat16 is as float32 on a CPU; None if it is not known."""
    speed = known_speed() if kind is None else None
    if speed is not None and (gain := speed.gain(Form.BF16)) is not None:
        return gain
    kind = this_cpu() if kind is None else kind
    if kind not in _CPUS:
        return None
    step = counted_work().network(MODEL, SIDE).step.on(BATCH)
    fp32, bf16 = (_table_rates(precision, 1, kind) for precision in ("fp32", "bf16"))
    return fp32.seconds(step) / bf16.seconds(step)


def gpu_rates(precision: str, name: str = "") -> Rates:
    """Return the rates of a GPU by a part of its name; those of a usual one if it is unknown."""
    known = next((kind for kind in _GPUS if _plain(kind) in _plain(name)), None)
    peak = _GPUS[known or _USUAL_GPU]
    operations = peak.bf16 if precision == "bf16" else peak.fp32
    return Rates(
        operations * _SHARE_OF_OPERATIONS,
        peak.bytes * _SHARE_OF_BYTES / _BYTES_OF_FLOAT32[precision],
        _LAUNCH_SECONDS,
        3.0 if known else 6.0,
        f"counted operations and shares of the data sheet of an {known or _USUAL_GPU}"
        + ("" if known else ", since the GPU is not known here"),
    )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@cache
def this_gpu() -> str:
    """Return the name of this machine's first NVIDIA GPU, empty if there is none."""
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "Model":
                return value.strip()
    return ""
