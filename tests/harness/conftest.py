"""Fixtures of the harness's tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def trees() -> ModuleType:
    """The module trees.py, which lies beside this file."""
    specification = importlib.util.spec_from_file_location("harness_trees", Path(__file__).with_name("trees.py"))
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["harness_trees"] = module
    specification.loader.exec_module(module)
    return module
