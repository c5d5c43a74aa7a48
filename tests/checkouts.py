"""Checkouts of upstream repositories, for tests that run upstream's own code."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def checkout_of(repository: str) -> Path:
    """The repository's checkout in the folder that SAMIRO_BENCH_UPSTREAM names. A test without one is skipped."""
    root = os.environ.get("SAMIRO_BENCH_UPSTREAM")
    if not root or not (Path(root) / repository).is_dir():
        pytest.skip(f"SAMIRO_BENCH_UPSTREAM names no folder with {repository}")
    return Path(root) / repository
