"""Fixtures of the engines' tests."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def jobs() -> Iterator[ModuleType]:
    """The module of tasks, importable by the jobs' processes too."""
    folder = str(Path(__file__).parent)
    specification = importlib.util.spec_from_file_location("jobs", f"{folder}/jobs.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["jobs"] = module
    specification.loader.exec_module(module)
    # Before what the variable has, which later tests of this process go on with.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", folder, prepend=os.pathsep)
        yield module
    del sys.modules["jobs"]
