"""Fixtures of the harness's tests."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from functools import partial
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


@pytest.fixture
def traced_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch.compile traces as ever and runs what it traced without a compiler; torch's own settings are back before and after."""
    import torch

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    with torch._dynamo.config.patch(skip_nnmodule_hook_guards=True):
        yield
    torch._dynamo.reset()
