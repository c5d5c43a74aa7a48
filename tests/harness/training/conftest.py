"""Fixtures of the training tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """The module toy.py, which lies beside this file."""
    from tests.harness.training import toy

    return toy


@pytest.fixture
def roads(toy: ModuleType, tmp_path: Path) -> Any:
    """Ten pictures on disk."""
    (tmp_path / "images").mkdir()
    return toy.Roads(tmp_path / "images")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One CPU thread, as the script toy.py has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
