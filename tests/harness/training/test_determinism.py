"""What is pinned so that one seed gives one training."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch

from harness.pytorch.random_state import random_state, set_random_state
from harness.training.determinism import deterministic, seed_everything


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The global generators and settings are left as they were found, and kernels are free in the meantime."""
    drawn, benchmark = random_state(), torch.backends.cudnn.benchmark
    threads, cv_threads = torch.get_num_threads(), cv2.getNumThreads()
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    yield
    set_random_state(drawn)
    torch.backends.cudnn.benchmark = benchmark
    torch.set_num_threads(threads)
    cv2.setNumThreads(cv_threads)
    torch.use_deterministic_algorithms(before, warn_only=warn_only)


@pytest.mark.parametrize(
    "draw", [random.random, np.random.rand, lambda: torch.rand(()).item()], ids=["python", "numpy", "torch"]
)
def test_a_seed_decides_what_each_global_generator_draws(draw):
    def drawn(seed: int) -> float:
        seed_everything(seed)
        return draw()

    assert drawn(3) == drawn(3) != drawn(4)
    # Of more bits than numpy takes.
    assert drawn(2**32 + 3) == drawn(2**32 + 3)


def settings() -> tuple[object, ...]:
    return (
        torch.get_num_threads(),
        cv2.getNumThreads(),
        torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )


def test_kernels_and_threads_are_pinned_meanwhile_and_free_again_also_after_a_fault():
    torch.backends.cudnn.benchmark = True
    torch.set_num_threads(2)
    cv2.setNumThreads(2)
    before = settings()
    within = []

    def faulty() -> None:
        with deterministic(threads=1):
            within.append(settings())
            raise KeyError

    with pytest.raises(KeyError):
        faulty()
    assert within == [(1, 1, False, True, True)]
    assert settings() == before == (2, 2, True, False, False)


@pytest.mark.parametrize(("own", "kept"), [(None, ":4096:8"), (":16:8", ":16:8")])
def test_cublas_has_a_workspace_with_which_it_is_deterministic(monkeypatch, own, kept):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", own or "")
    if own is None:
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    with deterministic(threads=1):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == kept
