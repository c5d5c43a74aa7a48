"""Fixtures of the methods' tests."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from harness.methods.attach import attach
from harness.methods.config import method_configuration
from harness.methods.pairing import tap_pairs
from harness.methods.statistics import target_statistics


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """The module toy.py, which lies beside this file."""
    from tests.harness.methods import toy

    return toy


@pytest.fixture
def attached(toy: ModuleType) -> Callable[..., Any]:
    """`attached(kind, detector=None, teacher=None, total_steps=None, **options)`: a toy detector in a method, statistics and all."""

    def build(
        kind: str, detector: Any = None, teacher: Any = None, total_steps: int | None = None, **options: Any
    ) -> Any:
        configuration = method_configuration(kind, options)
        detector = detector or toy.detector()
        statistics, oracle = None, None
        if kind != "baseline" and configuration.lambda_ > 0:
            oracle = teacher or toy.oracle()
            pairs = tap_pairs(detector, oracle, configuration)
            statistics = target_statistics(oracle, pairs, configuration, [toy.batch(seed).images for seed in range(9)])
        generator = torch.Generator().manual_seed(7)
        return attach(
            detector, configuration, oracle=oracle, statistics=statistics, generator=generator, total_steps=total_steps
        )

    return build
