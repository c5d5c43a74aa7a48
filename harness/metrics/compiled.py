"""How the metrics are compiled: numba, without the global interpreter lock, kept on disk between processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])

ZERO = cast(int, np.int64(0))
"""Where a count begins that goes on to another compiled function: for a written 0, numba would compile that once more."""


def compiled(function: Function) -> Function:
    """Compile a function at its first call, to run in threads beside Python.

    The machine code is cached where numba finds room: NUMBA_CACHE_DIR, this package's folder, else the user's cache folder.
    Where none of them can be written (a read-only container without a home) it lives as long as the process.
    numba renews a cached function when the file changes that it stands in, and no other: a compiled function therefore calls only
    compiled functions of its own module.
    Floating point follows IEEE 754 to the letter (no fast-math, no fused multiply-add), as the official binaries do.
    """
    try:
        return cast(Function, numba.njit(function, cache=True, nogil=True, error_model="numpy"))
    except RuntimeError:  # numba's word for "no folder to cache in"
        return cast(Function, numba.njit(function, nogil=True, error_model="numpy"))
