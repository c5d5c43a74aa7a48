"""Checkouts of upstream repositories, for tests that run upstream's own code."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from detectors.upstream.checkouts import VARIABLE

CHECKOUTS = os.environ.get(VARIABLE)

needs_checkouts = pytest.mark.skipif(
    CHECKOUTS is None, reason=f"needs {VARIABLE}, a folder of checkouts of upstream repositories"
)


def checkout_of(repository: str) -> Path:
    """The repository's checkout in the folder that SAMIRO_BENCH_UPSTREAM names. A test without one is skipped."""
    root = os.environ.get(VARIABLE)
    if not root or not (Path(root) / repository).is_dir():
        pytest.skip(f"{VARIABLE} names no folder with {repository}")
    return Path(root) / repository
