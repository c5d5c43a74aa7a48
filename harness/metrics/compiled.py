"""How the metrics are compiled: numba, without the global interpreter lock, kept on disk between processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def compiled(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Compile a function at its first call, to run in threads beside Python.

    The machine code is cached where numba finds room: NUMBA_CACHE_DIR, this package's folder, else the user's cache folder.
    Where none of them can be written (a read-only container without a home) it lives as long as the process.
    Floating point follows IEEE 754 to the letter (no fast-math, no fused multiply-add), as the official binaries do.
    """
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return cast("Callable[Parameters, Result]", numba.njit(cache=True, **options)(function))
    except RuntimeError:  # numba's word for "no folder to cache in"
        return cast("Callable[Parameters, Result]", numba.njit(**options)(function))
