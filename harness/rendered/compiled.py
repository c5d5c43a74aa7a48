"""How the kernels that draw are compiled: numba, kept on disk between processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator that compiles a function at its first call. options: of `numba.njit`.

    The machine code is cached where numba finds room: NUMBA_CACHE_DIR, this package's folder, else the user's cache folder.
    Where none of them can be written (a read-only container without a home) it lives as long as the process.
    numba renews a cached function when the file changes that it stands in, and no other; but kernels call those of other modules,
    whose code is then part of theirs. So here a cached function is renewed when any file of this package has changed.

    Kernels are inlined wherever they are called. Else the process that compiles them calls one another's machine code, and each that
    loads them from the cache the copy in its own: with fast arithmetic the two round differently, and what was rendered first on a
    machine had other pixels than all that came after.
    """

    def compile_one(function: Callable[..., Any]) -> Any:
        try:
            kept = numba.njit(cache=True, forceinline=True, **options)(function)
        except RuntimeError:  # numba's word for "no folder to cache in"
            return numba.njit(forceinline=True, **options)(function)
        if kept is function:  # NUMBA_DISABLE_JIT=1: nothing is compiled
            return kept
        file = kept._cache._cache_file
        file._source_stamp = (file._source_stamp, _package_stamp())
        return kept

    return compile_one


@lru_cache(maxsize=1)
def _package_stamp() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
