"""The memory of a training process: kept between steps, and how much of it was needed.

glibc hands blocks above a threshold straight from and to the kernel, which clears every page
anew: 60,000 page faults in a forward pass of resnet32x4 on 64 images. With both thresholds raised
the same memory is used again, and 700 are left. No number moves; the peak grows by a tenth.
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
import resource
import sys
from pathlib import Path

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK = 1 << 30
_KEEP = (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Ask the allocator to keep what is freed; False if it is not glibc's."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    asked = ((_M_MMAP_THRESHOLD, _LARGEST_BLOCK), (_M_TRIM_THRESHOLD, _KEEP))
    return all(mallopt(option, value) == 1 for option, value in asked)


def peak_memory_mb() -> float:
    """Return the most memory that this process has had, in megabytes.

    On Linux from /proc: getrusage there begins with the peak of the process that started this one.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
