"""How functions of pixels are compiled: they round as Python does, whoever calls them.

numba compiles a function with the caller's floating-point rules if its own are left open, and
keeps what it compiled first. ffcv compiles its pipelines with fast-math, under which a * s + b * s
becomes (a + b) * s: a byte may change, and which one depends on who called first.
"""

from __future__ import annotations

import numba

exact = numba.njit(nogil=True, fastmath=False, error_model="python")
